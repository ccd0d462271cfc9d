"""The guard in front of a servicer: that no RPC can do without a rule, and what a rule asks for."""

from typing import Any

import pytest

from selm import access
from selm.access import Rule
from selm.api.memory.v1.memory_service_pb2 import BatchCreateMemoriesRequest, CreateMemoryRequest
from selm.auth import Principal, acting_as
from selm.errors import SelmError

OF_MANY = Rule("write", owner="requests.parent", foreign="write_all", everyone="admin")
OWN, OTHER, ALL = "users/anna", "users/bert", "users/-"


@pytest.mark.parametrize(
    ("parents", "scopes", "missing"),
    [
        ([], ["read"], "write"),
        ([OWN, OWN], ["write"], ""),
        ([OWN, OTHER], ["write"], "write_all"),
        ([OWN, OTHER], ["write", "write_all"], ""),
        ([OWN, ALL], ["write", "write_all"], "admin"),
        # Malformed: for the handler to refuse.
        (["anna"], ["write"], ""),
    ],
)
def test_every_owner_of_a_request_counts(
    parents: list[str], scopes: list[str], missing: str
) -> None:
    """One foreign user among many is enough to need more."""
    requests = [CreateMemoryRequest(parent=parent) for parent in parents]
    assert missing_of(OF_MANY, scopes, BatchCreateMemoriesRequest(requests=requests)) == missing


def test_one_scope_may_do_in_the_place_of_another() -> None:
    """For what is one's own; without either it is the full one that is missing."""
    rule = Rule("read", own="write")
    assert missing_of(rule, ["read"]) == missing_of(rule, ["write"]) == ""
    assert missing_of(rule, ["export"]) == "read"


def missing_of(rule: Rule, scopes: list[str], request: Any = None) -> str:
    """The scope that anna lacks with these; "" if she may."""
    try:
        access.check(rule, Principal("t", "anna", frozenset(scopes)), request)
    except SelmError as error:
        assert error.reason == "SCOPE_MISSING"
        return error.metadata["scope"]
    return ""


def test_a_servicer_with_an_unknown_rpc_is_refused() -> None:
    """When its class is made, so long before anyone calls."""
    with pytest.raises(RuntimeError, match="no access rule for Surprise"):

        @access.guarded_by({"GetThing": Rule("things.read")})
        class Servicer:
            async def Surprise(self, request: Any, context: Any) -> None: ...


async def test_calls_and_streams_are_behind_their_rules() -> None:
    """Neither runs a line of the handler before, and an inherited one neither."""
    ran = []

    class Base:
        async def GetThing(self, request: Any, context: Any) -> str:
            ran.append("get")
            return "thing"

    @access.guarded_by({"GetThing": Rule("things.read"), "ExportThings": Rule("things.admin")})
    class Servicer(Base):
        async def ExportThings(self, request: Any, context: Any) -> Any:
            ran.append("export")
            yield "thing"

    servicer: Any = Servicer()
    with acting_as(Principal("t", "anna", frozenset())):
        with pytest.raises(SelmError, match="SCOPE_MISSING"):
            await servicer.GetThing(None, None)
        with pytest.raises(SelmError, match="SCOPE_MISSING"):
            [frame async for frame in servicer.ExportThings(None, None)]
    assert ran == []
    with acting_as(Principal("t", "anna", frozenset({"*"}))):
        assert await servicer.GetThing(None, None) == "thing"
        assert [frame async for frame in servicer.ExportThings(None, None)] == ["thing"]
