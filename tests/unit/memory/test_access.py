"""Who may call what: rules of every RPC, with principals of limited scopes."""

from typing import Any

import pytest

from memory_svc.access import RULES
from selm import access
from selm.api.memory.v1 import memory_admin_service_pb2 as admin_pb
from selm.api.memory.v1 import memory_pb2
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.auth import Principal
from selm.errors import SelmError

SHARED = memory_pb2.Memory(visibility=memory_pb2.VISIBILITY_SHARED)
OWN, OTHER = "users/anna", "users/bert"
MEMORY = "users/bert/memories/m1"


def scope_missing(rpc: str, request: Any, *scopes: str) -> str:
    """The scope that anna lacks with these; "" if she may."""
    principal = Principal("t", "anna", frozenset(scopes))
    try:
        access.check(RULES[rpc], principal, request)
    except SelmError as error:
        assert error.reason == "SCOPE_MISSING"
        return error.metadata["scope"]
    return ""


@pytest.mark.parametrize(
    "services", [pb.DESCRIPTOR.services_by_name, admin_pb.DESCRIPTOR.services_by_name]
)
def test_every_rpc_has_a_rule(services: Any) -> None:
    """A new one without fails here, and at the start of the service."""
    for service in services.values():
        for method in service.methods:
            assert method.name in RULES


def test_without_scopes_nothing_is_allowed() -> None:
    """Deny by default."""
    for service in (
        *pb.DESCRIPTOR.services_by_name.values(),
        *admin_pb.DESCRIPTOR.services_by_name.values(),
    ):
        for method in service.methods:
            request = method.input_type._concrete_class()
            assert scope_missing(method.name, request) == RULES[method.name].scope


@pytest.mark.parametrize(
    ("rpc", "request_of", "scopes", "missing"),
    [
        ("CreateMemory", pb.CreateMemoryRequest(parent=OWN), ["memories.write"], ""),
        ("CreateMemory", pb.CreateMemoryRequest(parent=OWN), ["memories.read"], "memories.write"),
        (
            "CreateMemory",
            pb.CreateMemoryRequest(parent=OTHER),
            ["memories.write", "memories.read_all"],
            "memories.write_all",
        ),
        (
            "CreateMemory",
            pb.CreateMemoryRequest(parent=OWN, memory=SHARED),
            ["memories.write"],
            "memories.share",
        ),
        (
            "BatchCreateMemories",
            pb.BatchCreateMemoriesRequest(
                parent=OWN,
                requests=[pb.CreateMemoryRequest(), pb.CreateMemoryRequest(memory=SHARED)],
            ),
            ["memories.write"],
            "memories.share",
        ),
        (
            "UpdateMemory",
            pb.UpdateMemoryRequest(memory=memory_pb2.Memory(name=MEMORY)),
            ["memories.write"],
            "memories.write_all",
        ),
        ("GetMemory", pb.GetMemoryRequest(name=MEMORY), ["memories.read"], "memories.read_all"),
        ("GetMemory", pb.GetMemoryRequest(name=MEMORY), ["memories.read", "memories.read_all"], ""),
        ("SearchMemories", pb.SearchMemoriesRequest(parent=OWN), ["memories.read"], ""),
        (
            "ListMemoryHistory",
            pb.ListMemoryHistoryRequest(parent=MEMORY),
            ["memories.read"],
            "memories.read_all",
        ),
        (
            "GetMemoryStats",
            admin_pb.GetMemoryStatsRequest(parent="users/-"),
            ["memories.read", "memories.read_all"],
            "memories.admin",
        ),
        (
            "PurgeMemories",
            admin_pb.PurgeMemoriesRequest(parent=OWN),
            ["memories.write", "memories.write_all"],
            "memories.admin",
        ),
    ],
)
def test_what_is_not_ones_own_needs_more(
    rpc: str, request_of: Any, scopes: list[str], missing: str
) -> None:
    """Another user, the whole tenant, and what all of the tenant will read."""
    assert missing == scope_missing(rpc, request_of, *scopes)


def test_the_star_may_everything() -> None:
    """As everybody may while authentication is off."""
    assert scope_missing("GetMemory", pb.GetMemoryRequest(name=MEMORY), "*") == ""
