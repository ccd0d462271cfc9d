"""Settings of memory_svc: `SELM_MEMORY_<FIELD>`; knows no resource, only numbers and bounds."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from memory_svc.core import GateThresholds
from selm import names
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

    # Searches of live memories in this process, exact and without the store, which one memory_svc
    # alone may then write. AUTO: with milvus-lite, whose data belongs to one memory_svc; not with a
    # cluster, where other replicas write.
    local_index: Literal["AUTO", "ON", "OFF"] = "AUTO"
    # Of all tenants together, about 4 kB each. A tenant that does not fit is searched in the store.
    local_index_max_memories: int = Field(default=200_000, ge=0, le=100_000_000)

    # "packaged" is the MiniLM of the install; else a folder or hub id of a sentence-transformer.
    embedding_model: str = Field(default="packaged", min_length=1)
    embedding_num_threads: int = Field(default=1, ge=1, le=64)

    # Folders with the tokenizer.json of models whose tokens AssembleContext may count, as JSON:
    # {"models/smollm2-135m-instruct": "/path"}. Bytes are counted for callers that name no model.
    tokenizers: dict[str, Path] = Field(default_factory=dict)

    # Probability that a correction applies, needed without an equal key: to lead the reply, and to
    # be no more than told to the model. As high as the first, the second lets nothing more in.
    gate_threshold: float = Field(default=0.40, ge=0, le=1)
    gate_related_threshold: float = Field(default=0.05, ge=0, le=1)
    # Cosine of query and text needed of a memory that is no correction.
    gate_similarity: float = Field(default=0.60, ge=0, le=1)
    # Cosines closer than this are equally close.
    gate_ambiguity_margin: float = Field(default=0.01, ge=0, le=1)
    # Cosine at which a differently worded correction about the same entity supersedes.
    supersede_threshold: float = Field(default=0.92, ge=0, le=1)
    # ... if both questions without their entity words are at least this similar.
    supersede_form_threshold: float = Field(default=0.90, ge=0, le=1)

    # Cosine at which a statement that repeats another word for word, articles aside, is folded.
    near_duplicate_threshold: float = Field(default=0.97, ge=0, le=1)

    # How long each step of re-embedding waits for replicas that have not heard of it yet.
    reembed_settle_s: float = Field(default=2.0, ge=0, le=300)

    # Between two looks for memories past their expire_time, whose text is then removed.
    sweep_interval_s: float = Field(default=3600.0, ge=0.1, le=86_400)

    # Between two writes of how memories were used.
    usage_flush_s: float = Field(default=30.0, ge=0.1, le=60)

    # Longest wait for the event of a consistency token.
    consistency_wait_s: float = Field(default=2.0, ge=0, le=2)

    @field_validator("tokenizers")
    @classmethod
    def _has_model_names(cls, value: dict[str, Path]) -> dict[str, Path]:
        for name in value:
            if names.parse(names.MODEL, name) is None:
                raise ValueError(f"{name!r} must be {names.MODEL}")
        return value

    @property
    def gate(self) -> GateThresholds:
        return GateThresholds(
            probability=self.gate_threshold,
            related=self.gate_related_threshold,
            similarity=self.gate_similarity,
            ambiguity_margin=self.gate_ambiguity_margin,
            supersede=self.supersede_threshold,
            supersede_form=self.supersede_form_threshold,
            near_duplicate=self.near_duplicate_threshold,
        )
