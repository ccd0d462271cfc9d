"""`.env.example` names only settings that exist."""

from pathlib import Path

from feedback_svc.settings import FeedbackSettings
from inference_svc.settings import InferenceSettings
from memory_svc.settings import MemorySettings
from selm.settings import SharedSettings
from trainer_svc.settings import TrainerSettings

EXAMPLE = Path(__file__).parents[3] / ".env.example"
SETTINGS = {
    "SELM_": SharedSettings,
    "SELM_INFERENCE_": InferenceSettings,
    "SELM_MEMORY_": MemorySettings,
    "SELM_FEEDBACK_": FeedbackSettings,
    "SELM_TRAINER_": TrainerSettings,
}


def test_every_name_in_the_example_is_a_setting() -> None:
    """A reader who copies a line gets what it says, not an error about an unknown name."""
    known = {
        prefix + field.upper()
        for prefix, settings in SETTINGS.items()
        for field in settings.model_fields
    }
    named = {
        line.removeprefix("# ").split("=")[0]
        for line in EXAMPLE.read_text(encoding="utf-8").splitlines()
        if line.startswith("# SELM_")
    }

    assert named - known == set()
    assert len(named) > 40
