"""What a service hands to the chassis: what it serves and what it depends on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from selm.checks import Check


@dataclass(frozen=True)
class Servicer:
    """One gRPC service: its full name, the generated function that adds it, and who answers."""

    full_name: str
    add: Callable[[Any, Any], None]
    implementation: Any


@dataclass(frozen=True)
class App:
    """What a service's `build` yields while everything it opened is open."""

    servicers: Sequence[Servicer]
    checks: Mapping[str, Check] = field(default_factory=dict)
    # Names of the checks that make the server not ready; the others are only told.
    critical: frozenset[str] = frozenset()


class StartError(Exception):
    """The process cannot start; the message is one line for the operator."""
