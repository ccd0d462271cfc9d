"""Failpoints: silent by default, exact when named."""

import subprocess
import sys

import pytest

from selm import testing
from selm.errors import SelmError


def test_a_failpoint_does_nothing_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product runs with failpoints compiled in."""
    monkeypatch.delenv("SELM_FAILPOINTS", raising=False)
    testing.failpoint("unit.a")
    monkeypatch.setenv("SELM_FAILPOINTS", "unit.b=raise(boom)")

    testing.failpoint("unit.a")


def test_raise_with_a_reason_is_a_selm_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage can be injected as the error that the code would see."""
    monkeypatch.setenv("SELM_FAILPOINTS", "unit.c=raise(STORE_UNAVAILABLE)")

    with pytest.raises(SelmError) as failure:
        testing.failpoint("unit.c")

    assert failure.value.reason == "STORE_UNAVAILABLE"


def test_raise_with_text_is_any_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug can be injected too."""
    monkeypatch.setenv("SELM_FAILPOINTS", "unit.d=raise(boom)")

    with pytest.raises(RuntimeError, match="boom"):
        testing.failpoint("unit.d")


def test_a_hit_count_fails_only_at_that_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    """`2*` lets the first pass and the third too."""
    monkeypatch.setenv("SELM_FAILPOINTS", "unit.e=2*raise(boom)")
    testing.failpoint("unit.e")
    with pytest.raises(RuntimeError):
        testing.failpoint("unit.e")

    testing.failpoint("unit.e")


def test_exit_ends_the_process_without_clean_up() -> None:
    """It stands for kill -9: no finally, no atexit."""
    code = "from selm.testing import failpoint\ntry:\n failpoint('x')\nfinally:\n print('cleaned')"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"SELM_FAILPOINTS": "x=exit(137)"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 137
    assert ended.stdout == ""


@pytest.mark.parametrize("text", ["x", "x=", "x=explode(1)", "=exit(1)", "x=exit(1"])
def test_a_misspelled_failpoint_is_an_error(text: str) -> None:
    """A chaos test that injects nothing must not pass."""
    with pytest.raises(ValueError, match="cannot read"):
        testing.parse_failpoints(text)


def test_several_failpoints_are_parsed() -> None:
    """They are separated by semicolons."""
    actions = testing.parse_failpoints("a=exit(1); b=3*sleep(0.5);")

    assert actions == {
        "a": testing.FailpointAction("exit", "1"),
        "b": testing.FailpointAction("sleep", "0.5", 3),
    }


async def test_eventually_returns_the_first_true_value() -> None:
    """Tests wait for facts, not for time."""
    values = iter([0, 0, 7])

    async def probe() -> int:
        return next(values)

    assert await testing.eventually(probe, interval_s=0.001) == 7


async def test_eventually_gives_up_with_the_last_value() -> None:
    """The failure says what was seen."""

    async def probe() -> list[int]:
        return []

    with pytest.raises(TimeoutError, match=r"\[\]"):
        await testing.eventually(probe, timeout_s=0.01, interval_s=0.001)
