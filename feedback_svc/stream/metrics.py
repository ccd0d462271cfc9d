"""The numbers that feedback_svc alone can tell, under their house names."""

from prometheus_client import Counter, Gauge, Histogram

RECEIVED = Counter("selm_feedback_received_total", "Signals made durable.", ["kind"])
DUPLICATES = Counter("selm_feedback_duplicates_total", "Repeats answered with the first result.")
TO_SERVING_SECONDS = Histogram(
    "selm_feedback_to_serving_seconds",
    "From a correction's receipt to the proof that the serving weights know it.",
    buckets=(5, 15, 30, 60, 120, 240, 480, 960, 3600, 4 * 3600, 24 * 3600),
)
WAITING_LESSONS = Gauge("selm_feedback_waiting_lessons", "Lessons not yet in a training request.")
TRAINING_REQUESTS = Counter(
    "selm_feedback_training_requests_total", "Training requests made.", ["trigger"]
)
WATCHERS = Gauge("selm_feedback_watchers", "Lesson watchers connected now.")
