"""Who may call what: one rule per RPC, checked before anything is looked up. Deny by default.

A method without a rule is refused when the servicer's class is made, so none can be forgotten. The
tenant is no matter of rules: it comes from the credential and is part of every condition. What a
malformed name means is left to the handler, which refuses it.
"""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from memory_svc.core import Visibility
from selm import names
from selm.auth import Principal, current_principal
from selm.errors import SelmError

READ = "memories.read"
WRITE = "memories.write"
READ_ALL = "memories.read_all"
WRITE_ALL = "memories.write_all"
SHARE = "memories.share"
ADMIN = "memories.admin"
# For operators alone.
REEMBED = "memories.reembed"

T = TypeVar("T")


@dataclass(frozen=True)
class Rule:
    """What a caller needs: the scope of the RPC, and more for what is not its own."""

    scope: str
    # Path of the field that names the owner, or a memory of the owner; "" if the scope is enough.
    owner: str = ""
    # For another user than the caller's own.
    foreign: str = ""
    # Paths of memories that must not be SHARED without scope `memories.share`.
    shares: tuple[str, ...] = ()


RULES: Mapping[str, Rule] = {
    "CreateMemory": Rule(WRITE, "parent", WRITE_ALL, ("memory",)),
    "BatchCreateMemories": Rule(WRITE, "parent", WRITE_ALL, ("requests.memory",)),
    "GetMemory": Rule(READ, "name", READ_ALL),
    "ListMemories": Rule(READ, "parent", READ_ALL),
    "UpdateMemory": Rule(WRITE, "memory.name", WRITE_ALL, ("memory",)),
    "DeleteMemory": Rule(WRITE, "name", WRITE_ALL),
    "SearchMemories": Rule(READ, "parent", READ_ALL),
    "AssembleContext": Rule(READ, "parent", READ_ALL),
    "ListMemoryHistory": Rule(READ, "parent", READ_ALL),
    "GetMemoryStats": Rule(READ, "parent", READ_ALL),
    # These cross users, or concern all of the tenant.
    "PurgeMemories": Rule(ADMIN),
    "ExportMemories": Rule(ADMIN),
    "ImportMemories": Rule(ADMIN),
    # These concern every tenant of the deployment.
    "CreateReembedJob": Rule(REEMBED),
    "GetReembedJob": Rule(REEMBED),
    "ListReembedJobs": Rule(REEMBED),
    "CancelReembedJob": Rule(REEMBED),
}


def guarded(servicer: type[T]) -> type[T]:
    """The servicer's class, each of its RPCs behind its rule, inherited ones too."""
    for name in dir(servicer):
        method = getattr(servicer, name)
        # What is generated refuses by itself, with a plain function.
        if name.startswith("_") or not _is_handler(method):
            continue
        if name not in RULES:
            raise RuntimeError(f"no access rule for {name}")
        setattr(servicer, name, _behind(RULES[name], method))
    return servicer


def check(rule: Rule, principal: Principal, request: Any) -> None:
    """SCOPE_MISSING unless the caller may do this; says nothing of what exists."""
    _require(principal, rule.scope)
    owner = _owner_of(_at(request, rule.owner)[0]) if rule.owner else None
    if owner == names.EVERY_USER:
        _require(principal, ADMIN)
    elif owner is not None and owner != names.user_name(principal.subject):
        _require(principal, rule.foreign)
    written = [memory for path in rule.shares for memory in _at(request, path)]
    if any(memory.visibility == Visibility.SHARED for memory in written):
        require_share(principal)


def require_share(principal: Principal) -> None:
    """For whoever writes what the whole tenant reads."""
    _require(principal, SHARE)


def _is_handler(method: Any) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


def _behind(rule: Rule, method: Callable[..., Any]) -> Callable[..., Any]:
    # Of the same kind as the method: the server runs coroutines and streams differently.
    if inspect.isasyncgenfunction(method):

        @functools.wraps(method)
        async def stream(self: Any, request: Any, context: Any) -> AsyncIterator[Any]:
            check(rule, current_principal(), request)
            async with aclosing(method(self, request, context)) as responses:
                async for response in responses:
                    yield response

        return stream

    @functools.wraps(method)
    async def call(self: Any, request: Any, context: Any) -> Any:
        check(rule, current_principal(), request)
        return await method(self, request, context)

    return call


def _require(principal: Principal, scope: str) -> None:
    if not principal.has_scope(scope):
        raise SelmError(
            "SCOPE_MISSING",
            f"the credential lacks scope {scope}",
            metadata={"scope": scope},
        )


def _owner_of(name: str) -> str | None:
    """The user of `users/{user}` or of one of its memories; None if the name is malformed."""
    ids = names.parse(names.USER, name) or names.parse(names.MEMORY, name)
    return None if ids is None else names.user_name(ids[0])


def _at(message: Any, path: str) -> list[Any]:
    """All values at a path; a repeated field on the way gives many."""
    first, _, rest = path.partition(".")
    value = getattr(message, first)
    values = [value] if isinstance(value, str | Message) else list(value)
    return [found for item in values for found in _at(item, rest)] if rest else values
