"""How strongly a memory may shape an answer, for every verdict and limit."""

from dataclasses import replace

import pytest

from selm.api.memory.v1 import memory_pb2
from selm.memory_use import GatedMemory, MemoryUse, applicable_use

EXACT = GatedMemory(is_in_scope=True, is_active=True, is_correction=True, is_exact=True)
SIMILAR = replace(EXACT, is_exact=False, similarity=0.95)
RELATED = replace(SIMILAR, is_related=True)
STATEMENT = replace(SIMILAR, is_correction=False, similarity=1.0)


@pytest.mark.parametrize(
    ("memory", "direct_similarity", "expected"),
    [
        (EXACT, None, MemoryUse.DIRECT),
        (SIMILAR, None, MemoryUse.PREFILL),
        (SIMILAR, 0.95, MemoryUse.DIRECT),
        (SIMILAR, 0.96, MemoryUse.PREFILL),
        (replace(SIMILAR, similarity=None), 0.0, MemoryUse.PREFILL),
        (replace(SIMILAR, similarity=float("nan")), 0.0, MemoryUse.PREFILL),
        (STATEMENT, 0.5, MemoryUse.CONTEXT),
        (RELATED, 0.5, MemoryUse.CONTEXT),
        (replace(RELATED, is_active=False), 0.5, MemoryUse.NONE),
        (replace(EXACT, is_in_scope=False), 0.5, MemoryUse.NONE),
        (replace(SIMILAR, is_in_scope=False), 0.5, MemoryUse.NONE),
        (replace(EXACT, is_active=False), 0.5, MemoryUse.NONE),
    ],
)
def test_the_strongest_use_that_gate_and_kind_allow(
    memory: GatedMemory, direct_similarity: float | None, expected: MemoryUse
) -> None:
    """Directly for the same question; for a similar one only from an asked similarity on."""
    assert applicable_use(MemoryUse.DIRECT, memory, direct_similarity) is expected


@pytest.mark.parametrize("limit", list(MemoryUse))
@pytest.mark.parametrize("memory", [EXACT, SIMILAR, RELATED, STATEMENT])
def test_the_limit_is_never_passed(limit: MemoryUse, memory: GatedMemory) -> None:
    """Less than allowed is used where less applies, more never."""
    used = applicable_use(limit, memory, 0.5)

    assert used is min(limit, applicable_use(MemoryUse.DIRECT, memory, 0.5))


def test_the_numbers_are_those_of_the_contract() -> None:
    """Every use has its number in the contract, and there are no others."""
    numbers = {use.name: use.value for use in MemoryUse}

    assert numbers == {
        name.removeprefix("MEMORY_USE_"): number
        for name, number in memory_pb2.MemoryUse.items()
        if number
    }
