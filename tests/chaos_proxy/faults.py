"""What can be wrong with one direction of a network path; numbers only, no sockets.

latency_s, jitter_s   every byte comes so much later, give or take; order is kept
bytes_per_s           no more than so many pass; the sender feels it as backpressure
is_swallowing         bytes vanish and nobody is told: half of a blackhole
is_holding            bytes wait for better times, as when TCP repeats lost packets
hides_end             the other side's FIN or RST is not passed on: a half-open connection
flips_every           one bit is inverted in about every so many bytes
"""

from dataclasses import dataclass
from enum import Enum


class Direction(Enum):
    """Seen from whoever connects to the proxy."""

    UP = "to the target"
    DOWN = "from the target"

    @property
    def opposite(self) -> "Direction":
        return Direction.DOWN if self is Direction.UP else Direction.UP


@dataclass(frozen=True)
class Fault:
    """State of one direction; the default is a sound one."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    # None is unlimited.
    bytes_per_s: float | None = None
    is_swallowing: bool = False
    is_holding: bool = False
    hides_end: bool = False
    # 0 is never.
    flips_every: int = 0


SOUND = Fault()
BLACKHOLE = Fault(is_swallowing=True, hides_end=True)
HELD = Fault(is_holding=True)
