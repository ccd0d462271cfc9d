"""What a run will do, all of it derived from a seed: who says what, and what breaks when.

A step of the plan falls due by the number of acknowledged events, not by the clock, so that the
same things happen at about the same place of the history on a fast and on a slow machine.
"""

import random
import uuid
from dataclasses import dataclass

from tests.feedback_chaos.history import Content, Saying

NUM_CLIENTS = 8
RATING_MAX = 10.0
# Generations that are rated again and again.
_NUM_RATED = 64
# Of all sayings: sent twice at once, repeated right after, repeated much later.
_SHARE_DOUBLED, _SHARE_AGAIN, _SHARE_LATE = 0.03, 0.03, 0.03
_SYLLABLES = (
    *("ba", "de", "fi", "go", "lu", "ma", "ne", "ri", "so", "tu"),
    *("va", "ze", "ki", "no", "la", "per", "mon", "tal", "ver", "dis"),
)
_NAME_SYLLABLES = 5
_PLACES, _PERSONS = 1_234_567, 2_718_281
_MOST_TURNS = 65_536
# Nothing breaks before the clients found their pace, or when they are nearly done.
_FIRST, _LAST = 0.03, 0.95


@dataclass(frozen=True)
class Question:
    """What a generation was asked; only corrections need one of their own."""

    generation_id: str
    text: str


@dataclass(frozen=True)
class Turn:
    """A client's saying, and whether it is said twice at once, and which one is then repeated."""

    saying: Saying
    is_doubled: bool = False
    again: int | None = None


@dataclass(frozen=True)
class Step:
    """One fault, due after so many acknowledged events."""

    after: int
    # For a process: which one is killed, and for how long it stays away. For the network: what is
    # wrong, and for how long.
    what: str
    lasts_s: float


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    num_events: int
    kills: dict[str, int]
    num_network_faults: int
    longest_fault_s: float = 4.0


FULL = Sizes(20_000, {"feedback": 12, "nats": 8, "memory": 4}, 20)
# Each kind of network fault once.
SHORT = Sizes(300, {"feedback": 2, "nats": 1}, 8, longest_fault_s=1.2)

NETWORK_FAULTS = (
    "blackhole",
    "dead_up",
    "dead_down",
    "hidden_ends",
    "hold",
    "latency",
    "rate",
    "reset",
)


@dataclass(frozen=True)
class Plan:
    seed: int
    sizes: Sizes
    questions: tuple[Question, ...]
    turns: tuple[tuple[Turn, ...], ...]
    kills: tuple[Step, ...]
    network: tuple[Step, ...]

    @property
    def num_corrections(self) -> int:
        turns = (turn for client in self.turns for turn in client)
        return sum(is_correction(turn.saying) for turn in turns)


def is_correction(saying: Saying) -> bool:
    return saying.content.signal.startswith("correction")


def user_of(client: int) -> str:
    return f"users/speaker-{client}"


def make_plan(seed: int, sizes: Sizes) -> Plan:
    """The same seed and sizes make the same plan."""
    rng = random.Random(f"feedback-chaos-{seed}")
    rated = [Question(_id(rng), f"What is {number} and one?") for number in range(_NUM_RATED)]
    questions = list(rated)
    turns = []
    for client in range(NUM_CLIENTS):
        num_turns = sizes.num_events // NUM_CLIENTS + (client < sizes.num_events % NUM_CLIENTS)
        turns.append(tuple(_turn(rng, client, n, rated, questions) for n in range(num_turns)))
    return Plan(
        seed,
        sizes,
        tuple(questions),
        tuple(turns),
        _kills(rng, sizes),
        _network(rng, sizes),
    )


def _turn(
    rng: random.Random, client: int, number: int, rated: list[Question], questions: list[Question]
) -> Turn:
    # Every tenth, so that they are at most a tenth whatever the seed.
    if number % 10 == 9:
        index = client * _MOST_TURNS + number
        place, person = _name(index, _PLACES), _name(index, _PERSONS)
        question = Question(_id(rng), f"Who keeps the lighthouse of {place}?")
        questions.append(question)
        signal = correction_signal(question.text, f"{person} keeps the lighthouse of {place}.")
        target = f"generations/{question.generation_id}"
    else:
        # No two are equal: an equal one under another request_id would be a duplicate.
        signal = rating_signal(client + number / _MOST_TURNS, RATING_MAX)
        target = f"generations/{rng.choice(rated).generation_id}"
        if number % 2:
            # Nothing has to be looked up for it: its first message to the broker is the event.
            target = f"conversations/talk-{client}"
    content = Content(user_of(client), target, signal)
    saying = Saying(client, number, _id(rng), content)
    dice = rng.random()
    if dice < _SHARE_DOUBLED:
        return Turn(saying, is_doubled=True)
    if dice < _SHARE_DOUBLED + _SHARE_AGAIN:
        return Turn(saying, again=number)
    if dice < _SHARE_DOUBLED + _SHARE_AGAIN + _SHARE_LATE and number > 0:
        return Turn(saying, again=rng.randrange(number))
    return Turn(saying)


def rating_signal(value: float, max_value: float) -> str:
    return f"rating {value!r} of {max_value!r}"


def correction_signal(question: str, text: str) -> str:
    return f"correction {question} -> {text}"


def _kills(rng: random.Random, sizes: Sizes) -> tuple[Step, ...]:
    steps = [
        Step(_moment(rng, sizes), process, rng.uniform(0.0, sizes.longest_fault_s / 4))
        for process, num_kills in sizes.kills.items()
        for _ in range(num_kills)
    ]
    return tuple(sorted(steps, key=lambda step: step.after))


def _network(rng: random.Random, sizes: Sizes) -> tuple[Step, ...]:
    # Each kind before any comes twice.
    kinds: list[str] = []
    while len(kinds) < sizes.num_network_faults:
        kinds += rng.sample(NETWORK_FAULTS, len(NETWORK_FAULTS))
    steps = [
        Step(_moment(rng, sizes), kind, rng.uniform(0.3, 1.0) * sizes.longest_fault_s)
        for kind in kinds[: sizes.num_network_faults]
    ]
    return tuple(sorted(steps, key=lambda step: step.after))


def _moment(rng: random.Random, sizes: Sizes) -> int:
    return int(sizes.num_events * rng.uniform(_FIRST, _LAST))


def _id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _name(index: int, factor: int) -> str:
    """A made-up name that looks like one; another index makes another name."""
    # The factors share no divisor with the number of names, so no two indices meet.
    rest = index * factor % len(_SYLLABLES) ** _NAME_SYLLABLES
    parts = []
    for _ in range(_NAME_SYLLABLES):
        rest, digit = divmod(rest, len(_SYLLABLES))
        parts.append(_SYLLABLES[digit])
    return "".join(parts).capitalize()
