"""What the engine reports to Prometheus, under the house names; no label has ids."""

from prometheus_client import Counter, Gauge, Histogram

from inference_svc.core import Record
from selm.metrics import DURATION_BUCKETS, TOKEN_BUCKETS

FIRST_TOKEN_SECONDS = Histogram(
    "selm_generation_first_token_seconds",
    "From arrival to the first text.",
    buckets=DURATION_BUCKETS,
)
OUTPUT_TOKEN_SECONDS = Histogram(
    "selm_generation_output_token_seconds",
    "Time per output token after the first, one observation per generation.",
    buckets=tuple(0.001 * 2**power for power in range(14)),
)
OUTPUT_TOKENS = Histogram(
    "selm_generation_output_tokens", "Output tokens of a generation.", buckets=TOKEN_BUCKETS
)
MEMORY = Counter("selm_generation_memory_total", "Generations by memory state.", ["state"])
RUNNING = Gauge("selm_engine_running_sequences", "Sequences that hold a row.")
WAITING = Gauge("selm_engine_waiting_sequences", "Sequences that wait for a row.")
CACHE_TOKENS = Gauge("selm_engine_cache_tokens", "Tokens of keys and values reserved.")
UNPUBLISHED = Counter(
    "selm_generations_unpublished_total", "Finished generations dropped without a broker."
)
SLOTS_USED = Gauge("selm_adapter_slots_used", "Engine slots that hold a revision.")
LOAD_SECONDS = Histogram(
    "selm_adapter_load_seconds", "From request to probed.", buckets=DURATION_BUCKETS
)
LOAD_FAILURES = Counter("selm_adapter_load_failures_total", "Failed loads.", ["reason"])
SWAPS = Counter("selm_adapter_swaps_total", "Alias moves that took effect here.")


def observe(record: Record) -> None:
    """One finished generation."""
    MEMORY.labels(record.started.recollection.state.value).inc()
    if record.finished is None:
        return
    timings, num_tokens = record.finished.timings, record.finished.usage.output_tokens
    FIRST_TOKEN_SECONDS.observe(timings.first_token_s)
    OUTPUT_TOKENS.observe(num_tokens)
    if num_tokens > 1:
        OUTPUT_TOKEN_SECONDS.observe(timings.decode_s / (num_tokens - 1))
