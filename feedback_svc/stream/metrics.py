"""The numbers that feedback_svc alone can tell, under their house names."""

from prometheus_client import Counter, Gauge, Histogram

RECEIVED = Counter("selm_feedback_received_total", "Signals made durable.", ["kind"])
DUPLICATES = Counter("selm_feedback_duplicates_total", "Repeats answered with the first result.")
TO_SERVING_SECONDS = Histogram(
    "selm_feedback_to_serving_seconds",
    "From a correction's receipt to the proof that the serving weights know it.",
    buckets=(5, 15, 30, 60, 120, 240, 480, 960, 3600, 4 * 3600, 24 * 3600),
)
WATCHERS = Gauge("selm_feedback_watchers", "Lesson watchers connected now.")
REWOUND = Counter(
    "selm_feedback_stream_rewound_total",
    "Times the broker came back without what it had acknowledged.",
    ["stream"],
)
REDACTIONS = Counter(
    "selm_feedback_redactions_total", "Secrets and personal data replaced before storing.", ["kind"]
)
WITHHELD = Counter("selm_feedback_withheld_total", "Events withheld, by what was found.", ["kind"])
