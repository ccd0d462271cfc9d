"""How far an author is trusted, from what became of what he sent. Pure.

The mean of a beta distribution with a uniform prior (Jøsang and Ismail, The Beta Reputation System,
2002): (good + 1) / (good + bad + 2). One who is unknown has 0.5; each decision moves it less.
"""

from dataclasses import dataclass

DEFAULT_TRUST = 0.5


@dataclass(frozen=True)
class Trust:
    """What is known of an author of a tenant.

    Counts are decisions of reviewers: what was merely let through says nothing, or an attacker
    would earn trust by sending harmless corrections.
    """

    accepted: int = 0
    rejected: int = 0
    conflicts_lost: int = 0
    # What was believed of him before these decisions; it weighs as much as two of them.
    prior: float = DEFAULT_TRUST
    # Set by an operator, 0 to 1; decisions leave it as it is.
    fixed: float | None = None
    blocked: bool = False

    @property
    def weight(self) -> float:
        """0 to 1: what his vote counts in a quorum; the weight of his examples in a dataset."""
        if self.blocked:
            return 0.0
        if self.fixed is not None:
            return min(1.0, max(0.0, self.fixed))
        num_bad = self.rejected + self.conflicts_lost
        return (self.accepted + 2 * self.prior) / (self.accepted + num_bad + 2)
