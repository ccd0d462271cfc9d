"""Who may call what: every RPC that is served, with principals of limited scopes."""

import inspect
from typing import Any

import pytest
from google.protobuf import descriptor_pool

from feedback_svc import access, app
from feedback_svc.access import RULES
from selm.auth import Principal, acting_as
from selm.errors import SelmError

SERVICES = {
    f"selm.api.feedback.v1.{name}Service"
    for name in ("Feedback", "Lesson", "Learning", "Review", "Dataset")
} | {"selm.api.ops.v1.ErasureService"}
SERVICERS = {
    name: servicer
    for name, servicer in vars(app).items()
    if inspect.isclass(servicer) and name.endswith("Service")
}


def methods_of(service: str) -> Any:
    return descriptor_pool.Default().FindServiceByName(service).methods


def principal(*scopes: str, subject: str = "ada") -> Principal:
    return Principal("t", subject, frozenset(scopes))


async def ended(call: Any) -> None:
    """A call as the server runs it: a coroutine, or a stream read to its end."""
    if inspect.isasyncgen(call):
        async for _ in call:
            pass
    else:
        await call


def test_the_table_is_of_what_is_served() -> None:
    """No RPC without a rule, and no rule without its RPC."""
    assert {service.rpartition(".")[2] for service in SERVICES} == set(SERVICERS)
    assert {m.name for service in SERVICES for m in methods_of(service)} == set(RULES)


@pytest.mark.parametrize("service", sorted(SERVICES))
async def test_every_rpc_asks_for_its_scope(service: str) -> None:
    """Before it looks at anything: these servicers have nothing behind them to look at."""
    servicer_class = SERVICERS[service.rpartition(".")[2]]
    servicer = servicer_class.__new__(servicer_class)
    for method in methods_of(service):
        rule = RULES[method.name]
        everything_else = {r.scope for r in RULES.values()} - {rule.scope, rule.own}
        request = method.input_type._concrete_class()
        with (
            acting_as(principal(*everything_else)),
            pytest.raises(SelmError, match="SCOPE_MISSING") as refused,
        ):
            await ended(getattr(servicer, method.name)(request, None))
        assert refused.value.metadata == {"scope": rule.scope}


@pytest.mark.parametrize(
    ("subject", "scopes", "is_allowed"),
    [
        ("bert", ["feedback.write"], True),
        ("ada", ["feedback.write"], True),
        ("cleo", ["feedback.write"], False),
        ("cleo", ["feedback.read"], True),
        ("cleo", ["*"], True),
    ],
)
def test_what_is_ones_own_can_be_read_by_who_may_write(
    subject: str, scopes: list[str], is_allowed: bool
) -> None:
    """Its author and the user whose data it is; others read with a scope for all of it."""
    caller = principal(*scopes, subject=subject)
    if is_allowed:
        access.require_read(caller, "feedbackEvents/one", "bert", "users/ada")
    else:
        with pytest.raises(SelmError, match="RESOURCE_NOT_FOUND"):
            access.require_read(caller, "feedbackEvents/one", "bert", "users/ada")
