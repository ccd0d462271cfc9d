"""What an answer says of the memory it was made with."""

import pytest

from memory_svc.core import MemoryType
from memory_svc.upkeep.usage import judge
from tests.unit.memory.support import memory


@pytest.mark.parametrize(
    ("kind", "text", "answer", "count"),
    [
        (MemoryType.CORRECTION, "Tashkeri", "The capital is Tashkeri.", "agreed_count"),
        (MemoryType.CORRECTION, "Tashkeri", "The capital is Ostrava.", "disagreed_count"),
        # A fact can shape an answer that does not repeat it.
        (MemoryType.FACT, "Bo is vegan", "Try the lentil soup.", ""),
        (MemoryType.FACT, "Bo is vegan", "Since Bo is vegan, try the soup.", "agreed_count"),
        (MemoryType.CORRECTION, "Tashkeri", "", ""),
        # Deleted or swept meanwhile.
        (MemoryType.CORRECTION, "", "The capital is Tashkeri.", ""),
    ],
)
def test_an_answer_is_judged_by_what_stands_in_it(
    kind: MemoryType, text: str, answer: str, count: str
) -> None:
    """Only a correction can be contradicted by silence."""
    assert judge(memory(text=text, type=kind), answer) == count


def test_a_related_correction_is_not_contradicted_by_silence() -> None:
    """The question may have been about something else; what says it, agrees with it."""
    assert judge(memory(), "It has two million people.", is_related=True) == ""
    assert judge(memory(), "It is Tashkeri.", is_related=True) == "agreed_count"
