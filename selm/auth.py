"""Who calls: the principal of the running RPC. Authentication is off; this is its one seam.

The tenant never comes from a request message. While authentication is off it comes from metadata.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from selm import names
from selm.errors import FieldViolation, InvalidFields, SelmError

TENANT_HEADER = "x-selm-tenant"
DEFAULT_TENANT = "default"
ALL_SCOPES = frozenset({"*"})
_TENANT_RULE = re.compile(r"[a-z0-9-]{1,63}")


@dataclass(frozen=True)
class Principal:
    """The caller: whose data it may touch, who it is, and what it may do."""

    tenant: str
    subject: str
    scopes: frozenset[str]

    @property
    def user(self) -> str:
        """The user whose data is the caller's own."""
        return names.user_name(self.subject)

    def has_scope(self, scope: str) -> bool:
        return scope in self.scopes or "*" in self.scopes

    def require(self, scope: str) -> None:
        """SCOPE_MISSING without it."""
        if not self.has_scope(scope):
            raise scope_missing(scope)


def scope_missing(scope: str) -> SelmError:
    """What a caller hears who may not."""
    text = f"the credential lacks scope {scope}"
    return SelmError("SCOPE_MISSING", text, metadata={"scope": scope})


_current: ContextVar[Principal] = ContextVar("selm_principal")


def current_principal() -> Principal:
    """The principal of the RPC this code runs in; outside of one there is none to fall back to."""
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("no principal here: this code runs outside of an RPC") from None


def set_principal(principal: Principal) -> None:
    """Binds the principal for the rest of the running RPC; the auth layer calls it."""
    _current.set(principal)


@contextmanager
def acting_as(principal: Principal) -> Iterator[Principal]:
    """Runs a block as this principal: for consumers of events, and for tests."""
    token = _current.set(principal)
    try:
        yield principal
    finally:
        _current.reset(token)


def development_principal(tenant: str = DEFAULT_TENANT) -> Principal:
    """Who everybody is while authentication is off."""
    return Principal(tenant=tenant, subject="anonymous", scopes=ALL_SCOPES)


def authenticate(metadata: Mapping[str, str]) -> Principal:
    """The principal of a call's metadata; a malformed tenant is refused, not replaced."""
    tenant = metadata.get(TENANT_HEADER, DEFAULT_TENANT)
    if not _TENANT_RULE.fullmatch(tenant):
        violation = FieldViolation(
            f"metadata.{TENANT_HEADER}", f"must match {_TENANT_RULE.pattern}"
        )
        raise InvalidFields([violation])
    return development_principal(tenant)
