"""One stack for all end-to-end tests: four processes, real parts, the packaged model."""

from collections.abc import Iterator

import pytest

from tests.stack import Stack, start_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running `selm up`; learns only when asked, so that tests decide when training runs."""
    running = start_stack(tmp_path_factory.mktemp("stack"), SELM_FEEDBACK_TRAINING_PAUSED="true")
    yield running

    assert running.stop() == 0, "\n".join(running.lines[-40:])
