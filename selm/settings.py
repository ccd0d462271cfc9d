"""Settings that every process reads from the environment; owns the guard against misspelled ones.

Knows no service: each service subclasses ServiceSettings and adds its own fields.
"""

import difflib
import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SERVICES = ("inference", "memory", "feedback", "trainer")
ENV_FILE = ".env"
# Read by selm.testing, not by a settings class.
OTHER_VARIABLES = frozenset({"SELM_FAILPOINTS"})
OTHER_PREFIXES = ("SELM_TEST_",)
MIB = 1024 * 1024


class SettingsError(Exception):
    """The environment does not make valid settings; the message is one line for the operator."""


def config(env_prefix: str) -> SettingsConfigDict:
    """How every settings class of this project reads its environment."""
    return SettingsConfigDict(
        env_prefix=env_prefix,
        env_file=ENV_FILE,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )


class SharedSettings(BaseSettings):
    """What all processes agree on: `SELM_<FIELD>`."""

    model_config = config("SELM_")

    nats_url: str = "nats://127.0.0.1:4222"
    nats_user: str | None = None
    nats_password: SecretStr | None = None
    # The broker's HTTP monitor, e.g. http://127.0.0.1:8222: asked whether it syncs every write.
    nats_monitor_url: str | None = Field(default=None, pattern=r"^https?://")
    # Everything a process writes on this machine; relative to the working directory.
    data_dir: Path = Path(".selm")
    # `nats://artifacts` (object store of the bus) or `file:///folder`.
    artifacts_uri: str = "nats://artifacts"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"
    # Name of this process in logs, acknowledgements and GetServerInfo, e.g. its pod.
    instance: str = Field(default_factory=socket.gethostname, min_length=1, max_length=128)
    # Source commit this was built from; images set it.
    commit: str = Field(default="", max_length=64)
    # Binding a non-loopback host while authentication is off is refused without this.
    allow_insecure: bool = False
    # Between NOT_SERVING and the end of new calls, so that load balancers look away first.
    drain_delay_s: float = Field(default=0.0, ge=0, le=300)
    # For running calls to end, after that.
    grace_s: float = Field(default=30.0, ge=0, le=3600)
    max_message_bytes: int = Field(default=4 * MIB, ge=1024, le=64 * MIB)
    # For unary calls whose client sends no deadline.
    default_deadline_s: float = Field(default=60.0, gt=0, le=3600)
    reflection: bool = True
    # Signs page tokens; the same in all replicas of a deployment.
    page_key: SecretStr = SecretStr("selm-development")
    inference_target: str = "127.0.0.1:50051"
    memory_target: str = "127.0.0.1:50052"
    feedback_target: str = "127.0.0.1:50053"
    trainer_target: str = "127.0.0.1:50054"

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value


class ServiceSettings(BaseSettings):
    """What every service has of its own; subclasses set env_prefix and the two ports."""

    model_config = config("SELM_SERVICE_")

    host: str = "127.0.0.1"
    # 0 lets the system choose; tests do.
    port: int = Field(default=0, ge=0, le=65535)
    metrics_port: int = Field(default=0, ge=0, le=65535)
    # Running calls, streams included; one more is answered QUEUE_FULL.
    max_in_flight: int = Field(default=512, ge=1, le=100_000)
    shared: SharedSettings = Field(default_factory=SharedSettings)

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


AnySettings = TypeVar("AnySettings", bound=BaseSettings)


def load_settings(settings_class: type[AnySettings]) -> AnySettings:
    """Reads and checks the environment; any fault becomes one SettingsError line."""
    check_environment(settings_class)
    try:
        return settings_class()
    except ValidationError as error:
        raise SettingsError(_one_line(settings_class, error)) from None


def check_environment(*settings_classes: type[BaseSettings]) -> None:
    """Refuses SELM_* variables that no settings class reads: a typo must not pass in silence."""
    classes: list[type[BaseSettings]] = [SharedSettings, *settings_classes]
    known = {name for cls in classes for name in _variables(cls)}
    own = {str(cls.model_config.get("env_prefix")) for cls in settings_classes}
    foreign = tuple(p for p in (f"SELM_{s.upper()}_" for s in SERVICES) if p not in own)
    environment = (
        {**dotenv_values(ENV_FILE), **os.environ} if Path(ENV_FILE).is_file() else os.environ
    )
    faults = list(_unknown(environment, known, foreign))
    if faults:
        raise SettingsError("; ".join(faults))


def _unknown(
    environment: Mapping[str, str | None], known: set[str], foreign: tuple[str, ...]
) -> Iterator[str]:
    for name in sorted(environment):
        upper = name.upper()
        if not upper.startswith("SELM_") or upper in known | OTHER_VARIABLES:
            continue
        if upper.startswith((*foreign, *OTHER_PREFIXES)):
            continue
        near = difflib.get_close_matches(upper, known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        if re.search(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP)", upper):
            hint = " (a Kubernetes service link: set enableServiceLinks: false)"
        yield f"unknown setting {name}{hint}"


def _variables(settings_class: type[BaseSettings]) -> Iterator[str]:
    prefix = str(settings_class.model_config.get("env_prefix", ""))
    for field in settings_class.model_fields:
        if field != "shared":
            yield f"{prefix}{field}".upper()


def _one_line(settings_class: type[BaseSettings], error: ValidationError) -> str:
    prefix = str(settings_class.model_config.get("env_prefix", ""))
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        where = "_".join(str(part) for part in fault["loc"])
        # Fields of SharedSettings arrive as an error of that class itself, through its factory.
        owner = "SELM_" if error.title == SharedSettings.__name__ else prefix
        faults.append(f"{owner}{where}".upper() + f": {fault['msg']}")
    return "invalid settings: " + "; ".join(faults)
