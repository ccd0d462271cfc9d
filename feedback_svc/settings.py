"""Settings of feedback_svc: `SELM_FEEDBACK_<FIELD>`; knows no resource, only numbers and bounds."""

from typing import Literal

from pydantic import Field

from feedback_svc.learning import TrainingPolicy
from selm.lessons import Consent
from selm.settings import ServiceSettings, config


class FeedbackSettings(ServiceSettings):
    """What an operator may change about feedback and about when to learn."""

    model_config = config("SELM_FEEDBACK_")

    port: int = Field(default=50053, ge=0, le=65535)
    metrics_port: int = Field(default=9103, ge=0, le=65535)

    # Consent of feedback that states none. A secured deployment sets MEMORY_ONLY.
    default_consent: Literal["MEMORY_ONLY", "PRIVATE_ADAPTER", "SHARED_ADAPTER"] = "SHARED_ADAPTER"
    # What is replaced before anything is stored: secrets and personal data, secrets alone, nothing.
    redaction: Literal["ALL", "SECRETS", "OFF"] = "ALL"
    # More authors than this teaching nearly the same within the window are a flood, and what comes
    # then waits for a reviewer; 0 is off.
    max_authors_alike: int = Field(default=20, ge=0, le=1000)
    flood_window_s: float = Field(default=3600.0, gt=0, le=86_400)
    # inference_svc publishes off the hot path: how long to look for a generation before NOT_FOUND.
    generation_wait_s: float = Field(default=1.0, ge=0, le=10)
    # For one answer of the bus; a longer silence is BUS_UNAVAILABLE.
    bus_timeout_s: float = Field(default=1.5, gt=0, le=30)

    # Serve only if the broker says that it syncs every write; it is asked at SELM_NATS_MONITOR_URL.
    require_sync_always: bool = False

    # Start nothing by itself; manual requests still run.
    training_paused: bool = False
    # Train when this many new lessons are remembered.
    min_lessons: int = Field(default=8, ge=1, le=10_000)
    # Train what there is when no new lesson came for this long.
    idle_s: float = Field(default=60.0, ge=0, le=86_400)
    # Wait this long after the last lesson, so that a burst becomes one request.
    debounce_s: float = Field(default=5.0, ge=0, le=3600)
    # Least time between two automatic requests of an adapter.
    cooldown_s: float = Field(default=30.0, ge=0, le=86_400)
    # How often the policy looks.
    policy_interval_s: float = Field(default=1.0, gt=0, le=60)

    @property
    def consent(self) -> Consent:
        return Consent[self.default_consent]

    @property
    def policy(self) -> TrainingPolicy:
        return TrainingPolicy(
            paused=self.training_paused,
            min_lessons=self.min_lessons,
            idle_s=self.idle_s,
            debounce_s=self.debounce_s,
            cooldown_s=self.cooldown_s,
            default_consent=self.consent,
        )
