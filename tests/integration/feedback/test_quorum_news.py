"""What makes a quorum be weighed anew although nobody said anything more about its subject."""

from typing import Any

from tests.integration.feedback.review_client import OVERRIDE, Person, client, item_of, rita
from tests.integration.feedback.test_conflicts import PRIVATE, SHARED, reaching, says

__all__ = ["client", "rita"]


async def test_a_policy_that_asks_for_fewer_authors_widens_and_for_more_narrows(
    rita: Person, peers: Any
) -> None:
    """Each replica notices by itself."""
    await rita.set_policy(quorum_authors=3)
    both = [await says(rita, peers, author, "Lutz") for author in ("anna", "bo")]
    assert [event.reach for event in both] == [PRIVATE, PRIVATE]

    for quorum_authors, reach in ((2, SHARED), (3, PRIVATE)):
        await rita.set_policy(quorum_authors=quorum_authors)
        for event in both:
            await reaching(rita, event, reach)


async def test_an_author_who_is_rejected_elsewhere_may_cost_a_quorum(
    rita: Person, peers: Any
) -> None:
    """His trust moves, and with it what he says about everything else."""
    await rita.set_policy(quorum_authors=2)
    both = [await says(rita, peers, author, "Lutz") for author in ("anna", "bo")]
    for event in both:
        await reaching(rita, event, SHARED)

    generation = await peers.generate("What should one do?", "Nothing.")
    withheld = await rita.named("bo").correct(generation, OVERRIDE, user="users/bo")
    await rita.reject(item_of(withheld), "an attack")

    for event in both:
        await reaching(rita, event, PRIVATE)
