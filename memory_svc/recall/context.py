"""From what a search found to what a prompt may be given: which memories, how, in how many tokens.

Pure; the gate has decided before. The best correction in scope decides for all, as in a generation:
statements and what is merely related help only where no correction is likely to apply, and a
RETIRED one that is keeps every memory out, since the weights know it. Knows no wire and no
tokenizer: it is given what counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from memory_svc.core import State
from memory_svc.recall.gate import Hit
from memory_svc.recall.search import EmptyReason, Found
from selm.context_block import ContextBlock, Count, RecalledMemory, assemble
from selm.memory_use import LEAD, GatedMemory, MemoryUse, applicable_use


@dataclass(frozen=True)
class Wanted:
    """Bounds of a context."""

    max_use: MemoryUse
    max_memories: int
    max_tokens: int


@dataclass(frozen=True)
class Context:
    """What a prompt may be given, and what it was chosen from."""

    use: MemoryUse
    hits: Sequence[Hit]
    empty_reason: EmptyReason
    block: ContextBlock = field(default=ContextBlock())
    lead: str = ""
    direct_answer: str = ""


def assemble_context(found: Found, wanted: Wanted, count: Count) -> Context:
    """The strongest use that the caller and the gate allow, and the block for it."""
    deciding, use = _use(found.hits, wanted.max_use)
    if deciding is None or use is MemoryUse.NONE:
        return Context(MemoryUse.NONE, found.hits, _why_none(found))
    # Beside what is likely to apply, merely related ones would only argue with it.
    others = [
        hit
        for hit in found.hits
        if hit is not deciding and _may_be_told(hit) and not (hit.is_related and deciding.is_likely)
    ]
    told = [deciding, *others][: wanted.max_memories]
    block = assemble([_recalled(hit) for hit in told], count, wanted.max_tokens)
    if use is not MemoryUse.DIRECT and not block.text:
        # It applies, and does not fit: no lead without what it leads to.
        use = MemoryUse.NONE
    return Context(
        use,
        found.hits,
        EmptyReason.HAS_HITS,
        block,
        lead=LEAD if use is MemoryUse.PREFILL else "",
        direct_answer=deciding.memory.text if use is MemoryUse.DIRECT else "",
    )


def _use(hits: Sequence[Hit], limit: MemoryUse) -> tuple[Hit | None, MemoryUse]:
    likely = next((hit for hit in hits if hit.is_likely), None)
    deciding = likely or next((hit for hit in hits if _may_be_told(hit)), None)
    if deciding is None:
        return None, MemoryUse.NONE
    gated = GatedMemory(
        is_in_scope=True,
        is_active=_may_be_told(deciding),
        is_correction=deciding.is_correction,
        is_exact=deciding.is_exact,
        is_related=deciding.is_related,
    )
    return deciding, applicable_use(limit, gated)


def _may_be_told(hit: Hit) -> bool:
    """Not what the weights know already. What time has superseded is found only by who asks for
    that time."""
    return hit.is_in_scope and hit.memory.state is not State.RETIRED


def _why_none(found: Found) -> EmptyReason:
    if found.hits and not any(hit.is_in_scope for hit in found.hits):
        return EmptyReason.OUT_OF_SCOPE
    return found.empty_reason


def _recalled(hit: Hit) -> RecalledMemory:
    question = hit.memory.question if hit.is_correction else ""
    return RecalledMemory(hit.memory.name, hit.memory.text, question, hit.is_related)
