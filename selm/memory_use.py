"""How strongly a recalled memory may shape an answer: one rule for every service that decides it.

Knows no store, no model and no wire; whoever asks brings the gate's verdict.
"""

from dataclasses import dataclass
from enum import IntEnum

# Opens the reply when a memory was put into the question: a small model then says it.
LEAD = "The answer is"


class MemoryUse(IntEnum):
    """How strongly a memory may shape, or shaped, an answer. Ordered; numbers of the contract."""

    NONE = 1
    CONTEXT = 2
    PREFILL = 3
    DIRECT = 4


@dataclass(frozen=True)
class GatedMemory:
    """What the rule looks at: a memory beside one query."""

    is_in_scope: bool
    # Live; a RETIRED one only scopes the adapter, since the weights know it.
    is_active: bool
    # A question with its answer; else a statement.
    is_correction: bool
    # The query has the memory's key.
    is_exact: bool
    # In scope, though the query may ask something else about the same.
    is_related: bool = False
    # Cosine of query and the memory's question; None if it was not computed.
    similarity: float | None = None


def applicable_use(
    limit: MemoryUse, memory: GatedMemory, direct_similarity: float | None = None
) -> MemoryUse:
    """The strongest use within the limit.

    The stored answer is given directly for the same key; for nearly the same question only where
    `direct_similarity` asks for it. Weak evidence gives weak use: what is merely related is told,
    and the model decides whether it is the answer.
    """
    if not memory.is_in_scope or not memory.is_active:
        return MemoryUse.NONE
    if not memory.is_correction or memory.is_related:
        return min(limit, MemoryUse.CONTEXT)
    if memory.is_exact or _is_near(memory, direct_similarity):
        return min(limit, MemoryUse.DIRECT)
    return min(limit, MemoryUse.PREFILL)


def _is_near(memory: GatedMemory, direct_similarity: float | None) -> bool:
    if direct_similarity is None or memory.similarity is None:
        return False
    return memory.similarity >= direct_similarity
