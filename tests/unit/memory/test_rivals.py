"""What a new memory competes with, however many others there are."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from memory_svc.core import GateThresholds, Memory, State, Vector
from memory_svc.ports import Embedder
from memory_svc.upkeep.sweep import emptied
from memory_svc.verbs.rivals import MAX_OF_A_KEY, Rivals
from memory_svc.verbs.supersession import decide
from tests.unit.memory.support import START, DictStore, memory

NOW = START + timedelta(days=1)
MANY = MAX_OF_A_KEY + 6


class Unused:
    """An embedder for what needs none."""

    model = "none"
    dimension = 2

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        raise AssertionError(texts)

    def pinned(self) -> Embedder:
        return self


def beside(memories: Sequence[Memory]) -> Rivals:
    store = DictStore()
    store.memories = {(each.tenant, each.memory_id): each for each in memories}
    return Rivals(store, Unused(), GateThresholds())


async def test_what_the_sweep_emptied_keeps_older_words_from_coming_alive() -> None:
    """It was said later, and ran out: what it corrected is no truer for that."""
    rivals = beside([emptied(memory(number=2, expire_time=START), NOW)])
    late, new = memory(number=1), memory(number=3)

    after = [
        decide(each, await rivals.of(each, await rivals.known_to([each])), NOW)
        for each in (late, new)
    ]

    assert [outcome.memory.state for outcome in after] == [State.SUPERSEDED, State.ACTIVE]
    assert (after[0].memory.superseded_by, after[1].superseded) == ("users/a/memories/m2", ())


async def test_authors_who_agree_keep_a_few_memories_and_all_give_way_to_another_answer() -> None:
    """However many they are: what comes next has to meet them all."""
    store = DictStore()
    rivals = Rivals(store, Unused(), GateThresholds())
    for number in range(1, MANY):
        draft = memory(number=number, author=f"author {number}")
        outcome = decide(draft, await rivals.of(draft, await rivals.known_to([draft])), NOW)
        await store.put(outcome.writes)
        assert outcome.memory.lesson == draft.lesson

    live = [one for one in store.memories.values() if one.state is State.ACTIVE]
    other = memory(text="Oltina", number=MANY)
    last = decide(other, await rivals.of(other, await rivals.known_to([other])), NOW)

    assert 10 < len(live) < 20
    assert {one.memory.memory_id for one in last.superseded} == {one.memory_id for one in live}


async def test_tombstones_do_not_hide_the_live_one_of_a_key() -> None:
    """Of the same question many were deleted, and one more is live, whatever comes first."""
    gone = [memory(number=number).tombstone(NOW) for number in range(1, MANY)]
    live = memory(text="Oltina", number=MANY)
    draft = memory(text="Ardun", number=MANY + 1)

    known = await beside([*gone, live]).known_to([draft])

    assert live in known.all()
    # And of those that are gone the newest, which decides on what is said late.
    assert gone[-1].memory_id in [each.memory_id for each in known.all()]


async def test_many_of_the_same_words_do_not_hide_the_one_that_asks_the_same() -> None:
    """Of more than are read one by one, the nearest are."""
    many = [
        replace(memory(f"{'What ' * number}Velmora?", number=number), vector=(0.0, 1.0))
        for number in range(1, MANY)
    ]
    same = memory("Which is the Velmora?", number=MANY)
    draft = memory("What is that Velmora?", number=MANY + 1)
    assert {each.entity_key for each in (*many, same)} == {draft.entity_key}

    known = await beside([*many, same]).known_to([draft])

    assert same in known.all()
