"""The numbers of learning, under their house names: what waits, what came back, what got stuck."""

from prometheus_client import Counter, Gauge

from selm import streams

# Whose backlog is watched: what memory has still to hear, what trainers have still to take.
CONSUMERS = ((streams.FEEDBACK, "memory_remember"), (streams.TRAINING, streams.TRAINERS))
DEAD_LETTER_STREAMS = frozenset({streams.FEEDBACK.name, streams.TRAINING.name})

WAITING_LESSONS = Gauge("selm_feedback_waiting_lessons", "Lessons not yet in a training request.")
TRAINING_REQUESTS = Counter(
    "selm_feedback_training_requests_total", "Training requests made.", ["trigger"]
)
QUEUE_OLDEST_AGE = Gauge(
    "selm_feedback_queue_oldest_age_seconds", "Age of the oldest lesson not yet in a request."
)
QUEUE_REQUESTS = Gauge(
    "selm_feedback_queue_requests", "Training requests that wait or run.", ["state"]
)
QUEUE_DEPTH = Gauge(
    "selm_feedback_queue_depth",
    "Messages that a consumer was not handed yet.",
    ["stream", "consumer"],
)
QUEUE_REDELIVERED = Gauge(
    "selm_feedback_queue_redelivered",
    "Messages handed out again and not yet acknowledged.",
    ["stream", "consumer"],
)
QUEUE_DEAD_LETTERS = Gauge(
    "selm_feedback_queue_dead_letters",
    "Dead letters neither replayed nor discarded.",
    ["stream"],
)
