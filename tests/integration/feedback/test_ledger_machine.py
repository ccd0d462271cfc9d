"""T-02: send, resend, redeliver and crash in any order; the ledger equals the model set.

LEDGER_EXAMPLES sets how many histories are tried, LEDGER_STEPS how long each is.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.integration.feedback.ledger_machine import LedgerMachine, World

EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES") or 20)
STEPS = int(os.environ.get("LEDGER_STEPS") or 6)


@pytest.mark.timeout(max(300, EXAMPLES * STEPS * 2))
def test_t02_the_ledger_equals_the_model_set(nats_server):
    """Each event once, repeats answer the same name, whatever is killed in between."""
    world = World(nats_server)
    try:
        run_state_machine_as_test(
            lambda: LedgerMachine(world),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                # A step takes a second: a shorter history is not worth an hour of shrinking.
                phases=[Phase.generate],
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        world.close()
