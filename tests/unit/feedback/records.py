"""One recorded event, to be varied by tests."""

from datetime import UTC, datetime

from feedback_svc import core, signals
from selm.lessons import Consent

TIME = datetime(2030, 1, 1, tzinfo=UTC)
RECORD = core.FeedbackRecord(
    tenant="t",
    name="feedbackEvents/e1",
    generation="generations/g1",
    conversation="",
    signal=signals.Correction("Lutz", "Capital?", ("Town?",)),
    user="users/ada",
    adapter="adapters/default",
    consent=Consent.SHARED_ADAPTER,
    labels={"app": "x"},
    author="anonymous",
    adapter_revision="",
    lesson="lessons/l1",
    event_time=TIME,
    create_time=TIME,
    sequence=7,
    reach=Consent.SHARED_ADAPTER,
    digest="d1",
)
