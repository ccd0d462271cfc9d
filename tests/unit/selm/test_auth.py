"""The principal: never from a request message, never by accident."""

import pytest

from selm.auth import Principal, acting_as, authenticate, current_principal, development_principal
from selm.errors import InvalidFields


def test_the_tenant_comes_from_metadata_or_is_default() -> None:
    """While authentication is off, a caller may choose its tenant by metadata alone."""

    assert authenticate({}).tenant == "default"
    assert authenticate({"x-selm-tenant": "acme-1"}).tenant == "acme-1"


@pytest.mark.parametrize("tenant", ["", "A", "a.b", "a*", "a>", "a/b", "a" * 64, "a\n"])
def test_a_malformed_tenant_is_refused(tenant: str) -> None:
    """Nothing that could spell a wildcard or another tenant's key."""
    with pytest.raises(InvalidFields):
        authenticate({"x-selm-tenant": tenant})


def test_outside_of_a_call_there_is_no_principal() -> None:
    """Code that forgot whose data it touches fails instead of using a default."""
    with pytest.raises(RuntimeError):
        current_principal()


def test_a_block_can_act_as_someone() -> None:
    """Consumers of events act for the tenant of the event, and only inside their block."""
    with acting_as(development_principal("acme")) as principal:
        assert current_principal() == principal
    with pytest.raises(RuntimeError):
        current_principal()


def test_scopes_are_asked_by_name() -> None:
    """Everything while authentication is off, otherwise what was granted."""

    assert development_principal().has_scope("adapters.promote")
    assert not Principal("t", "s", frozenset({"a"})).has_scope("b")
