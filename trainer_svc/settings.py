"""Settings of trainer_svc: `SELM_TRAINER_<FIELD>`. Knows no resource, only numbers and bounds."""

import os
from pathlib import Path

from pydantic import Field

from selm.base_model import PACKAGED
from selm.settings import ServiceSettings, config


def _base_model_of_inference() -> str:
    """What inference serves is what is trained, unless said otherwise."""
    return os.environ.get("SELM_INFERENCE_BASE_MODEL") or PACKAGED


class TrainerSettings(ServiceSettings):
    """What an operator may change about training."""

    model_config = config("SELM_TRAINER_")

    port: int = Field(default=50054, ge=0, le=65535)
    metrics_port: int = Field(default=9104, ge=0, le=65535)

    # `packaged`, a folder, a GGUF file or a hub id. Default: SELM_INFERENCE_BASE_MODEL.
    base_model: str = Field(default_factory=_base_model_of_inference, min_length=1)
    # `cpu`, `cuda` or `cuda:1`.
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    # Of the training process; 0 takes one per core.
    num_threads: int = Field(default=0, ge=0, le=256)
    seed: int = Field(default=0, ge=0)
    # Up to so many live lessons every training starts from the base model; above it continues.
    consolidate_below: int = Field(default=64, ge=0, le=100_000)
    # Tries of one job before it is FAILED, ATTEMPTS_EXHAUSTED.
    max_attempts: int = Field(default=3, ge=1, le=10)
    # Working time of one job over all tries.
    max_duration_s: float = Field(default=3600.0, gt=0, le=86_400)
    # JSON object over the default recipe, e.g. {"max_epochs": 8, "lora_config": {"rank": 8}}.
    recipe: dict[str, object] = Field(default_factory=dict)

    @property
    def threads(self) -> int:
        return self.num_threads or os.cpu_count() or 1

    @property
    def cache_dir(self) -> Path:
        """Where base models are converted to; shared with inference on one machine."""
        return self.shared.data_dir / "models"

    @property
    def work_dir(self) -> Path:
        """Where running jobs keep their files; emptied as they end."""
        return self.shared.data_dir / "trainer"
