"""Every grpcurl line of the API guide, in order, against the running stack, as a reader does."""

import pytest

from tests.guide import Reader, Step, read_steps
from tests.stack import SERVICES, Stack

STEPS = read_steps()


@pytest.fixture(scope="module")
def reader(stack: Stack) -> Reader:
    """One reader for all steps: later lines use names from earlier replies."""
    return Reader({service.upper(): stack.target(service) for service in SERVICES})


@pytest.mark.timeout(900)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"line{step.line}")
def test_a_line_of_the_guide_answers_as_it_says(reader: Reader, step: Step) -> None:
    """The line exits with the status that the guide promises."""
    outcome = reader.follow(step)

    assert outcome.passed, outcome.output
