"""What a demo run measured: rows, states, the verdict; as a table for people and JSON for tools.

Holds numbers only; every one of them was put there by the run that makes the report.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.table import Table

from selm.demo_facts import Fact
from selm.questions import answer_contains

FIRST_TOKEN_LIMIT_S = 1.0
NUM_REQUIRED = 11
KEPT_STATES = frozenset({"RECEIVED", "REMEMBERED", "QUEUED", "TRAINED", "VERIFIED", "RETIRED"})
STATES = ("REMEMBERED", "QUEUED", "TRAINED", "VERIFIED", "RETIRED")


@dataclass
class Row:
    """One fact's way: every answer as it was given."""

    fact: Fact
    before: str = ""
    # True if the answer before was right already: there was nothing to correct.
    known: bool = False
    neighbour_before: str = ""
    corrected: str = ""
    # From feedback's OK to the first text of the answer right after it.
    first_token_s: float | None = None
    # Repeats after that OK because a service was away; the time above is then its restart's.
    num_repeats: int = 0
    lesson: str = ""
    state: str = ""
    state_reason: str = ""
    # Seconds from the correction to each state of its lesson, by the servers' clocks.
    state_s: dict[str, float] = field(default_factory=dict)
    memory_off: str = ""
    paraphrases: list[str] = field(default_factory=list)
    neighbour_after: str = ""

    @property
    def recalled(self) -> bool:
        """Right straight after the correction, or before there was one."""
        return self.known or answer_contains(self.fact.answer, self.corrected)

    @property
    def recalled_in_time(self) -> bool:
        """Right, and within the limit unless a service was being restarted."""
        if self.known or self.num_repeats:
            return self.recalled
        in_time = self.first_token_s is not None and self.first_token_s <= FIRST_TOKEN_LIMIT_S
        return self.recalled and in_time

    @property
    def learned(self) -> bool:
        """Right from the weights alone."""
        return answer_contains(self.fact.answer, self.memory_off)

    @property
    def num_paraphrases_right(self) -> int:
        """Of the unseen paraphrases, from the weights alone."""
        return sum(answer_contains(self.fact.answer, text) for text in self.paraphrases)

    @property
    def neighbour_unchanged(self) -> bool:
        """Letter for letter the same answer beside the fact."""
        return self.neighbour_before == self.neighbour_after


@dataclass
class Report:
    """The whole run."""

    seed: int
    rows: list[Row]
    jobs: list[dict[str, Any]] = field(default_factory=list)
    revisions: list[str] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)
    # From the first correction to the last answer with memory off.
    total_s: float = 0.0
    num_repeats: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """It learned: at once through memory, and then by its weights."""
        return self.num_recalled_in_time >= NUM_REQUIRED and self.num_learned >= NUM_REQUIRED

    @property
    def num_recalled_in_time(self) -> int:
        return sum(row.recalled_in_time for row in self.rows)

    @property
    def num_learned(self) -> int:
        return sum(row.learned for row in self.rows)

    def state_seconds(self) -> dict[str, list[float]]:
        """Per state, the seconds of every lesson that reached it."""
        return {
            state: [row.state_s[state] for row in self.rows if state in row.state_s]
            for state in STATES
        }

    def summary(self) -> dict[str, Any]:
        """The numbers that decide, as they go into JSON and under the table."""
        times = [row.first_token_s for row in self.rows if row.first_token_s is not None]
        return {
            "passed": self.passed,
            "seed": self.seed,
            "num_facts": len(self.rows),
            "num_known_before": sum(row.known for row in self.rows),
            "num_taught": sum(bool(row.lesson) for row in self.rows),
            # Corrections that were acknowledged and still count.
            "num_lessons_kept": sum(row.state in KEPT_STATES for row in self.rows),
            "num_right_after": sum(row.recalled for row in self.rows),
            "num_right_after_in_time": self.num_recalled_in_time,
            "first_token_s_median": median(times) if times else None,
            "first_token_s_max": max(times) if times else None,
            "num_right_memory_off": self.num_learned,
            "num_paraphrases": sum(len(row.fact.paraphrases) for row in self.rows),
            "num_paraphrases_right": sum(row.num_paraphrases_right for row in self.rows),
            "num_neighbours_unchanged": sum(row.neighbour_unchanged for row in self.rows),
            "revisions": self.revisions,
            "sha256": self.sha256,
            "total_s": round(self.total_s, 3),
            "num_repeats": self.num_repeats,
            "notes": self.notes,
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, answers included."""
        rows = [
            {
                "question": row.fact.question,
                "expected": row.fact.answer,
                "before": row.before,
                "known_before": row.known,
                "right_after": row.corrected,
                "right_after_ok": row.recalled,
                "first_token_s": row.first_token_s,
                "repeats": row.num_repeats,
                "memory_off": row.memory_off,
                "memory_off_ok": row.learned,
                "paraphrases": dict(zip(row.fact.paraphrases, row.paraphrases, strict=False)),
                "paraphrases_right": row.num_paraphrases_right,
                "neighbour": row.fact.neighbour,
                "neighbour_before": row.neighbour_before,
                "neighbour_after": row.neighbour_after,
                "neighbour_unchanged": row.neighbour_unchanged,
                "lesson": row.lesson,
                "lesson_state": row.state,
                "lesson_reason": row.state_reason,
                "seconds_to_state": row.state_s,
            }
            for row in self.rows
        ]
        return {**self.summary(), "jobs": self.jobs, "rows": rows}


def facts_table(report: Report) -> Table:
    """One line per fact: before, right after, and from the weights alone."""
    table = Table(title="What it said", show_lines=False, pad_edge=False)
    for heading in ("question", "right answer", "before", "right after", "first text"):
        table.add_column(heading, overflow="fold")
    for heading in ("memory off", "paraphrases", "neighbour"):
        table.add_column(heading, overflow="fold")
    for row in report.rows:
        table.add_row(
            row.fact.question,
            row.fact.answer,
            _short(row.before),
            "known before" if row.known else _judged(row.recalled, row.corrected),
            _first_text(row),
            _judged(row.learned, row.memory_off),
            f"{row.num_paraphrases_right}/{len(row.fact.paraphrases)}",
            "unchanged" if row.neighbour_unchanged else "[red]changed[/red]",
        )
    return table


def states_table(report: Report) -> Table:
    """Seconds from the correction to each state of its lesson."""
    table = Table(title="Seconds from correction to state", pad_edge=False)
    for heading in ("state", "lessons", "first", "median", "last"):
        table.add_column(heading, justify="left" if heading == "state" else "right")
    for state, seconds in report.state_seconds().items():
        numbers = [min(seconds), median(seconds), max(seconds)] if seconds else []
        table.add_row(state, str(len(seconds)), *(f"{number:.2f}" for number in numbers))
    return table


def summary_lines(report: Report) -> Iterator[str]:
    """What the tables add up to."""
    summary, num = report.summary(), len(report.rows)
    times = summary["first_token_s_median"], summary["first_token_s_max"]
    yield (
        f"right after the correction: {summary['num_right_after']}/{num} right, "
        f"{summary['num_right_after_in_time']}/{num} with the first text within "
        f"{FIRST_TOKEN_LIMIT_S:g} s or known before"
    )
    if times[0] is not None:
        yield (
            f"feedback OK to first text of the corrected answer: median {times[0]:.3f} s, "
            f"slowest {times[1]:.3f} s"
        )
    yield (
        f"memory off: {summary['num_right_memory_off']}/{num} right, unseen paraphrases "
        f"{summary['num_paraphrases_right']}/{summary['num_paraphrases']}, neighbours unchanged "
        f"{summary['num_neighbours_unchanged']}/{num}"
    )
    for revision, digest in zip(report.revisions, report.sha256, strict=False):
        yield f"revision {revision}, sha256 {digest}"
    yield f"first correction to last answer: {report.total_s:.1f} s"
    if report.num_repeats:
        yield f"calls repeated because a service was away: {report.num_repeats}"
    yield from report.notes


def _first_text(row: Row) -> str:
    if row.first_token_s is None:
        return "-"
    waited = f" ({row.num_repeats} repeats)" if row.num_repeats else ""
    return f"{row.first_token_s:.3f} s{waited}"


def _judged(right: bool, text: str) -> str:
    return f"[{'green' if right else 'red'}]{_short(text)}[/]"


def _short(text: str, limit: int = 40) -> str:
    line = " ".join(text.split()).replace("[", "(").replace("]", ")")
    return line if len(line) <= limit else line[: limit - 1] + "…"
