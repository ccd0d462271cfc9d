"""The corrections that the screen is judged by: ordinary ones and hostile ones."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.unit.feedback.safety.made_secrets import SECRETS

_DATA = Path(__file__).parents[3] / "data"
# Too long to stand in the file.
_LARGE = {
    "long": " ".join(f"In the year {year} the town saw {year * 3} ships." for year in range(250)),
    "blob": "QUJD0aX9" * 80,
}


@dataclass(frozen=True)
class Case:
    """`kind` is what the screen must find; empty for an ordinary correction."""

    kind: str
    question: str
    answer: str


def ordinary() -> list[Case]:
    return [Case("", question, answer) for _, question, answer in _read("ordinary")]


def languages() -> set[str]:
    return {language for language, _, _ in _read("ordinary")}


def hostile() -> list[Case]:
    return [Case(*map(_filled, row)) for row in _read("hostile")]


def _read(name: str) -> list[list[str]]:
    return json.loads((_DATA / f"{name}_corrections.json").read_text(encoding="utf-8"))


def _filled(text: str) -> str:
    for name, value in (SECRETS | _LARGE).items():
        text = text.replace("{" + name + "}", value)
    return text
