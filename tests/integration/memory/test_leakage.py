"""Nobody sees or changes what is another tenant's or user's, by any RPC and any id field.

The servicers run on real servers and are called as principals of limited scopes. Every id of the
owner is known to the attackers; what they learn is whether any of it is of use.
"""

import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from memory_svc.app import build
from memory_svc.settings import MemorySettings
from selm.api.memory.v1 import memory_admin_service_pb2 as admin_pb
from selm.api.memory.v1 import memory_pb2
from selm.api.memory.v1 import memory_service_pb2 as pb
from selm.auth import Principal
from selm.settings import SharedSettings
from selm.testing import eventually
from tests.integration.memory import attacks, id_fields
from tests.integration.memory.attacks import REQUESTS, Answer, Ids, call
from tests.integration.memory.id_fields import ID_FIELDS
from tests.integration.memory.running import patience

QUESTION = "Where does Ilvet Sarn keep the amber seal?"
CONVERSATION = "conversations/c1"
# Nobody but the owner may ever read these; the shared one is for its tenant.
SECRETS = ("below-the-hearth", "inside-the-clock", "four-paces-north", "under-the-bridge")
SHARED_SECRET = "ask-the-ferryman"
SCOPES = frozenset({"memories.read", "memories.write", "memories.share"})
CORRECTION, FACT = memory_pb2.MEMORY_TYPE_CORRECTION, memory_pb2.MEMORY_TYPE_FACT


@dataclass(frozen=True)
class House:
    """The servicers by name, and an owner with what is hers."""

    servicers: Mapping[str, Any]
    owner: Principal
    ids: Ids

    async def ask(self, principal: Principal, rpc: str, request: Any) -> Answer:
        return await call(self.servicers, principal, rpc, request)


@pytest.fixture
async def house(milvus_uri: str, nats_server: Any) -> AsyncIterator[House]:
    """A memory_svc in which anna of tenant A has stored, corrected, shared and deleted."""
    shared = SharedSettings(nats_url=nats_server.url, log_format="json")
    settings = MemorySettings(
        milvus_uri=milvus_uri, collection=f"c{uuid.uuid4().hex}", shared=shared, **patience()
    )
    async with build(settings) as app:

        async def is_ready() -> bool:
            return all([(await check()).passed for check in app.checks.values()])

        await eventually(is_ready, timeout_s=60)
        servicers = {s.full_name.rsplit(".", 1)[1]: s.implementation for s in app.servicers}
        owner = Principal(f"a{uuid.uuid4().hex[:12]}", "anna", frozenset({"*"}))
        yield House(servicers, owner, await _furnish(servicers, owner))


async def _furnish(servicers: Mapping[str, Any], owner: Principal) -> Ids:
    """Memories of every kind; everything that names one of them."""
    request_id = str(uuid.uuid4())
    conversation, shared = {"conversation": CONVERSATION}, {"visibility": "VISIBILITY_SHARED"}
    await _create(servicers, owner, CORRECTION, QUESTION, SECRETS[0])
    private = await _create(
        servicers, owner, CORRECTION, QUESTION, SECRETS[1], request_id=request_id
    )
    bound = await _create(servicers, owner, FACT, "", f"The seal is {SECRETS[2]}.", **conversation)
    await _create(servicers, owner, CORRECTION, QUESTION, SHARED_SECRET, **shared)
    gone = await _create(servicers, owner, FACT, "", f"The key is {SECRETS[3]}.")
    await _ok(servicers, owner, "DeleteMemory", pb.DeleteMemoryRequest(name=gone.memory.name))
    edit = memory_pb2.Memory(name=private.memory.name, importance=0.7)
    mask = FieldMask(paths=["importance"])
    update = pb.UpdateMemoryRequest(memory=edit, update_mask=mask)
    await _ok(servicers, owner, "UpdateMemory", update)
    return await _ids(servicers, owner, private, request_id, bound.memory.conversation)


async def _ids(
    servicers: Mapping[str, Any], owner: Principal, made: Any, request_id: str, conversation: str
) -> Ids:
    parent, memory = f"users/{owner.subject}", made.memory
    requests = {
        "ListMemories": pb.ListMemoriesRequest(parent=parent, page_size=1),
        "ListMemoryHistory": pb.ListMemoryHistoryRequest(parent=memory.name, page_size=1),
        "ExportMemories": admin_pb.ExportMemoriesRequest(parent=parent),
    }
    page, history, frame = [await _ok(servicers, owner, *item) for item in requests.items()]
    return Ids(
        parent=parent,
        memory=memory_pb2.Memory(
            name=memory.name,
            type=CORRECTION,
            text="of the attacker",
            question="What did the attacker ask?",
            subject_key=memory.subject_key,
            conversation=conversation,
            generation="generations/g1",
            feedback_event="feedbackEvents/f1",
            lesson="lessons/l1",
            superseded_by=memory.name,
            retired_by_revision="adapters/default/revisions/r0123456789abcdef",
        ),
        page_token=page.next_page_token,
        history_token=history.next_page_token,
        resume_token=frame.resume_token,
        consistency_token=made.consistency_token,
        request_id=request_id,
        query=QUESTION,
    )


async def _create(
    servicers: Mapping[str, Any],
    owner: Principal,
    kind: Any,
    question: str,
    text: str,
    request_id: str = "",
    **fields: Any,
) -> Any:
    memory = memory_pb2.Memory(
        type=kind, question=question, text=text, labels={"of": owner.subject}, **fields
    )
    request = pb.CreateMemoryRequest(
        parent=f"users/{owner.subject}", memory=memory, request_id=request_id
    )
    return await _ok(servicers, owner, "CreateMemory", request)


async def _ok(servicers: Mapping[str, Any], who: Principal, rpc: str, request: Any) -> Any:
    """The only or the first reply of a call that must succeed."""
    answer = await call(servicers, who, rpc, request)
    assert answer.reason == "OK", (rpc, answer)
    return answer.replies[0]


async def _belongings(house: House) -> dict[str, bytes]:
    """All that the owner has, with its vectors and history; how often it was found is left out."""
    request = admin_pb.ExportMemoriesRequest(parent=house.ids.parent, include_vectors=True)
    exported = await house.ask(house.owner, "ExportMemories", request)
    found = {}
    for frame in exported.replies:
        frame.memory.ClearField("counters")
        frame.ClearField("resume_token")
        asked = pb.ListMemoryHistoryRequest(parent=frame.memory.name)
        history = await _ok(house.servicers, house.owner, "ListMemoryHistory", asked)
        parts = (frame, history)
        found[frame.memory.name] = b"".join(p.SerializeToString(deterministic=True) for p in parts)
    return found


def _attackers(house: House) -> dict[str, tuple[Principal, frozenset[str]]]:
    """Who attacks, and what is no secret to them."""
    tenant = house.owner.tenant
    return {
        # Everything is allowed, in a tenant of its own, where a user has the owner's name too.
        "stranger": (Principal(f"b{tenant[1:]}", "anna", frozenset({"*"})), frozenset()),
        # Another user of the same tenant.
        "neighbour": (Principal(tenant, "mallory", SCOPES), frozenset({SHARED_SECRET})),
    }


def test_every_rpc_and_every_string_field_has_its_place() -> None:
    """A new one fails here until its attack is written."""
    assert set(REQUESTS) == set(attacks.rpcs())
    known = ID_FIELDS | id_fields.PLAIN_FIELDS
    full = Ids("users/a", _full_memory(), *["token"] * 5)
    for rpc, method in attacks.rpcs().items():
        paths = set(id_fields.string_paths(method.input_type))
        unknown = {path for path in paths if path.rsplit(".", 1)[-1] not in known}
        wanted = {path for path in paths if path.rsplit(".", 1)[-1] in ID_FIELDS}
        filled = {path for request in REQUESTS[rpc](full) for path in id_fields.filled(request)}
        assert not unknown, (rpc, unknown)
        assert wanted - filled - attacks.LEFT_EMPTY == set(), rpc


def _full_memory() -> memory_pb2.Memory:
    memory = memory_pb2.Memory()
    for field in memory.DESCRIPTOR.fields:
        if field.name in ID_FIELDS:
            setattr(memory, field.name, "x/y")
    return memory


async def test_the_owner_sees_what_the_attackers_look_for(house: House) -> None:
    """Else the others would prove nothing: the same requests find it for her."""
    for rpc in ("GetMemory", "ListMemories", "SearchMemories", "AssembleContext", "ExportMemories"):
        answers = [
            await house.ask(house.owner, rpc, request) for request in REQUESTS[rpc](house.ids)
        ]
        assert any(answer.tells(SECRETS[1]) for answer in answers), rpc


@pytest.mark.parametrize("who", ["stranger", "neighbour"])
async def test_nothing_leaks_and_nothing_changes(house: House, who: str) -> None:
    """Each RPC with all ids foreign, and with each single id foreign among the attacker's own."""
    attacker, public = _attackers(house)[who]
    own = await _furnish_attacker(house, attacker)
    before = await _belongings(house)
    assert len(before) >= 3
    num_calls = 0
    for rpc, requests in REQUESTS.items():
        for mine, hers in zip(requests(own), requests(house.ids), strict=True):
            for request in id_fields.variants(mine, hers):
                answer = await house.ask(attacker, rpc, request)
                num_calls += 1
                for secret in {*SECRETS, SHARED_SECRET} - public:
                    assert not answer.tells(secret), (rpc, request, answer.reason)
        assert await _belongings(house) == before, rpc
    print(f"\n{who}: {num_calls} calls")
    assert num_calls > 60


async def _furnish_attacker(house: House, attacker: Principal) -> Ids:
    """An attacker with a memory of its own, whose requests are good but for the foreign ids."""
    made = await _create(house.servicers, attacker, CORRECTION, "What is mine?", "of the attacker")
    memory = memory_pb2.Memory(
        name=made.memory.name, type=CORRECTION, text="of the attacker", question=QUESTION
    )
    return Ids(f"users/{attacker.subject}", memory, query=QUESTION)


async def test_foreign_ids_answer_as_absent_ones(house: House) -> None:
    """Nobody learns that something exists: reason and words are the same for what nobody has."""
    for who, (attacker, _) in _attackers(house).items():
        hers = house.ids
        if who == "neighbour":
            # Under the attacker's own name, where permission is no matter.
            name = f"users/mallory/memories/{hers.memory.name.rsplit('/', 1)[1]}"
            memory = memory_pb2.Memory()
            memory.CopyFrom(hers.memory)
            memory.name = name
            hers = replace(hers, parent="users/mallory", memory=memory)
        nobodys = attacks.absent(hers)
        # What makes ids exist for the attacker itself comes last.
        for rpc in sorted(REQUESTS, key=attacks.CREATING.__contains__):
            requests = REQUESTS[rpc]
            for real, invented in zip(requests(hers), requests(nobodys), strict=True):
                if rpc == "CreateReembedJob":
                    continue  # its only name is given by the server
                found = await house.ask(attacker, rpc, real)
                missing = await house.ask(attacker, rpc, invented)
                assert found.reason == missing.reason, (who, rpc, found, missing)
                assert _bare(found.message, hers) == _bare(missing.message, nobodys), (who, rpc)
                if rpc not in attacks.CREATING:
                    assert _lasting(found) == _lasting(missing), (who, rpc)


def _lasting(answer: Answer) -> list[Any]:
    """Replies without what differs from call to call: marks, ages and counts."""
    for reply in answer.replies:
        for hit in getattr(reply, "hits", ()):
            for field in ("score", "scores"):
                hit.ClearField(field)
            hit.memory.ClearField("counters")
        if isinstance(reply, pb.AssembleContextResponse):
            reply.ClearField("text")
    return answer.replies


def _bare(message: str, ids: Ids) -> str:
    return message.replace(ids.memory.name.rsplit("/", 1)[1], "ID")


async def test_a_users_name_needs_its_scope_whether_it_exists_or_not(house: House) -> None:
    """Permission comes before existence: of others a neighbour learns that it may not."""
    neighbour, _ = _attackers(house)["neighbour"]
    for ids in (house.ids, attacks.absent(house.ids)):
        for rpc, requests in REQUESTS.items():
            for request in requests(ids):
                assert (await house.ask(neighbour, rpc, request)).reason == "SCOPE_MISSING", rpc


async def test_every_user_is_for_administrators(house: House) -> None:
    """`users/-` names nobody's memories to a neighbour, and no RPC takes it for a user."""
    neighbour, _ = _attackers(house)["neighbour"]
    memory = memory_pb2.Memory()
    memory.CopyFrom(house.ids.memory)
    memory.name = memory.name.replace(house.ids.parent, "users/-")
    everybody = replace(house.ids, parent="users/-", memory=memory)
    for rpc, requests in REQUESTS.items():
        for request in requests(everybody):
            assert (await house.ask(neighbour, rpc, request)).reason == "SCOPE_MISSING", rpc
