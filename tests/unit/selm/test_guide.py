"""Promises of the API guide: each published RPC is shown, every request in it is well formed."""

import subprocess

import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor

from selm.client_channel import services
from tests.guide import ADDRESSES, GUIDE, NAMES, PRELUDE, Step, read_steps

STEPS = read_steps()
METHODS = {(s.full_name, m.name): m for s in services() for m in s.methods}
SAMPLES = {name: f"{name.lower()}/x" for name in NAMES}


def request_json(step: Step) -> str:
    """What the shell would hand to grpcurl as its request."""
    script = PRELUDE + "grpcurl() { printf '%s\\0' \"$@\"; }\n" + step.command
    done = subprocess.run(
        ["bash", "-c", script],
        env={**ADDRESSES, **SAMPLES, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    arguments = done.stdout.split("\0")
    return arguments[arguments.index("-d") + 1] if "-d" in arguments else "{}"


def test_every_published_rpc_has_its_line() -> None:
    """Nothing is published that the guide does not show."""
    shown = {(step.service, step.method) for step in STEPS}

    assert not set(METHODS) - shown


def test_the_guide_shows_nothing_else() -> None:
    """No line names an RPC that does not exist; health is the only foreign service."""
    foreign = {(step.service, step.method) for step in STEPS if step.method} - set(METHODS)

    assert foreign == {("grpc.health.v1.Health", "Check")}


@pytest.mark.parametrize(
    "step", [s for s in STEPS if (s.service, s.method) in METHODS], ids=lambda s: f"line {s.line}"
)
def test_requests_fit_their_messages(step: Step) -> None:
    """Each request parses as the RPC's message: no unknown field, enum value or broken quote."""
    method: MethodDescriptor = METHODS[(step.service, step.method)]
    message = message_factory.GetMessageClass(method.input_type)()

    json_format.Parse(request_json(step), message)


def test_variables_are_explained() -> None:
    """Every name a reader has to fill in stands in the table at the top."""
    text = GUIDE.read_text(encoding="utf-8")

    assert all(f"`${name}`" in text for name in NAMES)


def test_promised_errors_are_read_from_the_comments() -> None:
    """A step whose comment promises an error is checked against that error."""
    promised = [step.expected.name for step in STEPS if step.expected_exit_code]

    assert set(promised) == {
        "DEADLINE_EXCEEDED",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
    }
