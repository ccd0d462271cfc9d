"""What feedback_svc says and hears on the bus: protobuf messages on one side, core on the other.

Publishes FeedbackEventCreated, LessonAdvanced (QUEUED) and TrainingRequested. Reads GENERATIONS by
subject, and folds FEEDBACK, LESSONS, JOBS and DEAD_LETTERS. Opens no connection itself.
"""

from feedback_svc.events.erasure import ErasureCodec
from feedback_svc.events.feedback import FeedbackCodec
from feedback_svc.events.learning import LearningCodec


class Codec(FeedbackCodec, LearningCodec, ErasureCodec):
    """Translates; the back rooms hand it deliveries and get messages to publish."""
