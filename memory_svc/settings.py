"""Settings of memory_svc: `SELM_MEMORY_<FIELD>`; knows no resource, only numbers and bounds."""

from typing import Literal

from pydantic import Field, SecretStr

from memory_svc.core import GateThresholds
from selm.settings import ServiceSettings, config


class MemorySettings(ServiceSettings):
    """What an operator may change about storing and recalling."""

    model_config = config("SELM_MEMORY_")

    port: int = Field(default=50052, ge=0, le=65535)
    metrics_port: int = Field(default=9102, ge=0, le=65535)

    # A Milvus or milvus-lite server.
    milvus_uri: str = "http://127.0.0.1:19530"
    milvus_token: SecretStr | None = None
    # One per deployment; its name is part of no contract.
    collection: str = Field(default="selm_memories", pattern=r"[A-Za-z_][A-Za-z0-9_]{0,127}")
    # Of every read. Strong sees each acknowledged write and delete on every replica.
    consistency_level: Literal["Strong", "Session", "Bounded", "Eventually"] = "Strong"
    # For one call of the store; a longer silence is STORE_UNAVAILABLE.
    store_timeout_s: float = Field(default=5.0, gt=0, le=60)
    # Milvus Lite alone is told to flush after so many writes: its searches slow down with unflushed
    # ones. A cluster flushes by itself.
    flush_num_writes: int = Field(default=200, ge=1, le=100_000)

    # "packaged" is the MiniLM of the install; else a folder or hub id of a sentence-transformer.
    embedding_model: str = Field(default="packaged", min_length=1)
    embedding_num_threads: int = Field(default=1, ge=1, le=64)

    # Cosine of query and question needed for IN_SCOPE without an equal key.
    gate_threshold: float = Field(default=0.60, ge=0, le=1)
    # Cosine needed of both questions without their entity words; 0 switches this part off.
    gate_form_threshold: float = Field(default=0.55, ge=0, le=1)
    # Cosines closer than this are equally close.
    gate_ambiguity_margin: float = Field(default=0.01, ge=0, le=1)
    # Cosine at which a differently worded correction about the same entity supersedes.
    supersede_threshold: float = Field(default=0.92, ge=0, le=1)
    # ... if both questions without their entity words are at least this similar.
    supersede_form_threshold: float = Field(default=0.90, ge=0, le=1)

    # Longest wait for the event of a consistency token.
    consistency_wait_s: float = Field(default=2.0, ge=0, le=2)

    @property
    def gate(self) -> GateThresholds:
        return GateThresholds(
            similarity=self.gate_threshold,
            form=self.gate_form_threshold,
            ambiguity_margin=self.gate_ambiguity_margin,
            supersede=self.supersede_threshold,
            supersede_form=self.supersede_form_threshold,
        )
