"""Who may call what: one rule per RPC, checked before anything is looked up. Deny by default.

A method without a rule is refused when the servicer's class is made, so none can be forgotten. The
tenant is no matter of rules: it comes from the credential and is part of every condition. What a
malformed name means is left to the handler, which refuses it. Each service has its own table.
"""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from selm import names
from selm.auth import Principal, current_principal

T = TypeVar("T")


def _nothing_more(request: Any) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Rule:
    """What a caller needs: the scope of the RPC, and more for what is not its own."""

    scope: str
    # Does as well for what is the caller's own; the handler must then see whose it is.
    own: str = ""
    # Path of the field that names the owner, or a memory of the owner; "" if the scope is enough.
    owner: str = ""
    # For another user than the caller's own, and for all users of the tenant at once.
    foreign: str = ""
    everyone: str = ""
    # Further scopes, for what a request says.
    more: Callable[[Any], Iterable[str]] = _nothing_more


Rules = Mapping[str, Rule]


def guarded_by(rules: Rules) -> Callable[[type[T]], type[T]]:
    """For a servicer's class: puts each of its RPCs behind its rule, inherited ones too."""

    def guard(servicer: type[T]) -> type[T]:
        for name in dir(servicer):
            method = getattr(servicer, name)
            # What is generated refuses by itself, with a plain function.
            if name.startswith("_") or not _is_handler(method):
                continue
            if name not in rules:
                raise RuntimeError(f"no access rule for {name}")
            setattr(servicer, name, _behind(rules[name], method))
        return servicer

    return guard


def check(rule: Rule, principal: Principal, request: Any) -> None:
    """SCOPE_MISSING unless the caller may do this; says nothing of what exists."""
    if not (rule.own and principal.has_scope(rule.own)):
        principal.require(rule.scope)
    for name in values_at(request, rule.owner) if rule.owner else ():
        owner = _owner_of(name)
        if owner == names.EVERY_USER:
            principal.require(rule.everyone or rule.foreign)
        elif owner is not None and owner != principal.user:
            principal.require(rule.foreign)
    for scope in rule.more(request):
        principal.require(scope)


def values_at(message: Any, path: str) -> list[Any]:
    """All values at a path; a repeated field on the way gives many."""
    first, _, rest = path.partition(".")
    value = getattr(message, first)
    values = [value] if isinstance(value, str | Message) else list(value)
    return [found for item in values for found in values_at(item, rest)] if rest else values


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


def _owner_of(name: str) -> str | None:
    """The user of `users/{user}` or of one of its memories; None if the name is malformed."""
    ids = names.parse(names.USER, name) or names.parse(names.MEMORY, name)
    return None if ids is None else names.user_name(ids[0])
