"""Who answers: memory, adapter or the base model, for every verdict of the gate."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from inference_svc.core import (
    Ask,
    Hit,
    MemoryOptions,
    MemoryState,
    Message,
    Recollection,
    Sampling,
)
from inference_svc.revisions import AdapterReason, Revision, ScopeMode, Selection, Selector
from inference_svc.scope import decide, lead_of, needs_memory, with_memory
from selm.memory_use import LEAD, MemoryUse

NEWEST = datetime(2030, 1, 2, tzinfo=UTC)
REVISION = Revision(
    tenant="default",
    name="adapters/default/revisions/r0123456789abcdef",
    sha256="",
    base_sha256="",
    weights_sha256="",
    config_sha256="",
    lessons_sha256="",
    artifact_uri="",
    artifact_sha256="",
    size_bytes=0,
    newest_lesson_time=NEWEST,
)
SCOPED = Selection(
    REVISION, "adapters/default", "stable", ScopeMode.SCOPED, None, frozenset({"lessons/held"})
)
ALWAYS = replace(SCOPED, scope_mode=ScopeMode.ALWAYS)
BASE = Selection(None, reason=AdapterReason.NOTHING_PROMOTED)
HIT = Hit(
    memory="users/u/memories/m",
    question="Capital of Zor?",
    answer="Vel",
    lesson="lessons/held",
    create_time=NEWEST - timedelta(days=1),
    is_active=True,
    is_correction=True,
    is_in_scope=True,
    is_exact=True,
    score=1.0,
)
SIMILAR = replace(HIT, is_exact=False)
RELATED = replace(SIMILAR, is_related=True)
NOT_HELD = replace(HIT, lesson="lessons/other")
NEWER = replace(NOT_HELD, create_time=NEWEST + timedelta(days=1))


def ask(max_use: MemoryUse = MemoryUse.DIRECT, **fields: object) -> Ask:
    request = Ask(
        messages=(Message("user", "capital of zor"),),
        prompt="",
        selector=Selector(),
        sampling=Sampling(),
        memory=MemoryOptions(max_use),
        tenant="default",
        user="users/u",
    )
    return replace(request, **fields)


def plan(
    selection: Selection,
    *hits: Hit,
    request: Ask | None = None,
    state: MemoryState = MemoryState.READY,
    applies_unscoped: bool = True,
):
    return decide(
        request or ask(), selection, Recollection(state, hits), applies_unscoped=applies_unscoped
    )


def test_exact_key_is_answered_directly() -> None:
    """A live correction of exactly this question is the answer, and beats the adapter."""
    made = plan(SCOPED, HIT)

    assert (made.use, made.hits) == (MemoryUse.DIRECT, (HIT,))
    assert not made.applies_adapter
    assert made.adapter_reason is None


def test_similar_question_is_prefilled() -> None:
    """In scope but worded differently: the fact goes into the turn, the reply gets its lead."""
    made = plan(BASE, SIMILAR)

    assert made.use is MemoryUse.PREFILL
    assert lead_of(made) == LEAD
    assert made.adapter_reason is AdapterReason.NOTHING_PROMOTED


def test_what_is_merely_related_is_told_without_a_lead() -> None:
    """The model decides whether it is the answer; the adapter that holds the lesson applies."""
    made = plan(SCOPED, RELATED)

    assert (made.use, lead_of(made), made.hits) == (MemoryUse.CONTEXT, "", (RELATED,))
    assert made.applies_adapter


def test_statements_go_by_rank_with_what_is_merely_related() -> None:
    """Only a correction that is likely to apply goes before a closer statement; told beside it is
    no related one."""
    fact = replace(SIMILAR, is_correction=False, lesson="", memory="users/u/memories/f")
    more = ask(memory=MemoryOptions(MemoryUse.DIRECT, max_memories=3))

    assert plan(BASE, fact, RELATED).hits == (fact,)
    assert plan(BASE, SIMILAR, RELATED, fact, request=more).hits == (SIMILAR, fact)
    assert plan(SCOPED, replace(RELATED, is_active=False), fact).hits == (fact,)


def test_prefill_keeps_the_adapter_only_if_it_holds_the_lesson() -> None:
    """A stale adapter must not argue with the memory."""
    assert plan(SCOPED, SIMILAR).applies_adapter
    assert not plan(SCOPED, replace(NEWER, is_exact=False)).applies_adapter


@pytest.mark.parametrize(
    ("hits", "reason", "applies"),
    [
        ((), AdapterReason.OUT_OF_SCOPE, False),
        ((replace(HIT, is_in_scope=False),), AdapterReason.OUT_OF_SCOPE, False),
        ((HIT,), AdapterReason.IN_SCOPE, True),
        ((replace(HIT, is_active=False),), AdapterReason.IN_SCOPE, True),
        ((NOT_HELD,), AdapterReason.LESSON_NOT_HELD, False),
        ((NEWER,), AdapterReason.LESSON_NEWER, False),
        ((NEWER, HIT), AdapterReason.LESSON_NEWER, False),
    ],
)
def test_scoped_adapter_speaks_only_where_it_was_taught(
    hits: tuple[Hit, ...], reason: AdapterReason, applies: bool
) -> None:
    """With memory switched off its gate still decides; the best correction decides for all."""
    made = plan(SCOPED, *hits, request=ask(MemoryUse.NONE))

    assert (made.adapter_reason, made.applies_adapter) == (reason, applies)
    assert made.use is MemoryUse.NONE


def test_retired_memory_scopes_but_is_not_used() -> None:
    """The weights know it: the adapter answers, nothing is injected."""
    made = plan(SCOPED, replace(HIT, is_active=False))

    assert (made.use, made.hits) == (MemoryUse.NONE, ())
    assert made.applies_adapter
    assert made.lesson == "lessons/held"


def test_always_applies_whatever_memory_says() -> None:
    """Mode ALWAYS has no scope."""
    assert plan(ALWAYS).adapter_reason is AdapterReason.ALWAYS
    assert plan(ALWAYS, NEWER, request=ask(MemoryUse.NONE)).applies_adapter


@pytest.mark.parametrize("applies", [True, False])
def test_memory_down_follows_the_setting(applies: bool) -> None:
    """An outage unlearns nothing unless the deployment wants it so; the reason says it."""
    made = plan(SCOPED, state=MemoryState.DEGRADED, applies_unscoped=applies)

    assert made.adapter_reason is AdapterReason.SCOPE_UNKNOWN
    assert made.applies_adapter is applies


@pytest.mark.parametrize(
    ("max_use", "hit", "expected"),
    [
        (MemoryUse.NONE, HIT, MemoryUse.NONE),
        (MemoryUse.CONTEXT, HIT, MemoryUse.CONTEXT),
        (MemoryUse.PREFILL, HIT, MemoryUse.PREFILL),
        (MemoryUse.DIRECT, HIT, MemoryUse.DIRECT),
        (MemoryUse.DIRECT, SIMILAR, MemoryUse.PREFILL),
        (MemoryUse.DIRECT, replace(HIT, is_in_scope=False), MemoryUse.NONE),
        (MemoryUse.DIRECT, replace(HIT, is_correction=False), MemoryUse.CONTEXT),
    ],
)
def test_memory_use_stays_within_the_limit(
    max_use: MemoryUse, hit: Hit, expected: MemoryUse
) -> None:
    """The strongest use that the request, the gate and the kind of memory allow."""
    assert plan(BASE, hit, request=ask(max_use)).use is expected


def test_reply_opened_by_the_caller_gets_no_lead() -> None:
    """The caller's own opening stays the opening."""
    opened = ask(messages=(Message("user", "capital of zor"), Message("assistant", "It is")))

    assert plan(BASE, HIT, request=opened).use is MemoryUse.CONTEXT


def test_raw_prompt_is_answered_directly_or_left_alone() -> None:
    """There is no user turn to put a memory into."""
    raw = ask(messages=(), prompt="capital of zor")

    assert plan(BASE, HIT, request=raw).use is MemoryUse.DIRECT
    assert plan(BASE, SIMILAR, request=raw).use is MemoryUse.NONE


def test_memory_is_asked_only_where_it_matters() -> None:
    """Switched off and nothing to scope: memory is not even called."""
    off = ask(MemoryUse.NONE)

    assert not needs_memory(off, BASE)
    assert not needs_memory(off, ALWAYS)
    assert needs_memory(off, SCOPED)
    assert needs_memory(ask(), BASE)


def test_memory_goes_into_the_last_user_turn() -> None:
    """Behind the question; never into the system role, never into earlier turns."""
    chat = (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "capital of zor"),
    )
    request = ask(messages=chat)
    made = plan(BASE, HIT, request=request)
    kept, changed = with_memory(request, made, len)

    assert kept == made
    assert changed[:3] == chat[:3]
    assert changed[3].role == "user"
    assert changed[3].text.startswith("capital of zor\n[")
    assert 'The answer is "Vel".' in changed[3].text
    assert request.messages == chat


def test_same_seed_gives_the_same_prompt() -> None:
    """The mark around a memory is drawn from the request's seed; another seed has another mark."""
    requests = [ask(sampling=Sampling(seed=seed)) for seed in (1, 1, 2)]
    texts = [with_memory(r, plan(BASE, SIMILAR, request=r), len)[1][-1].text for r in requests]

    assert texts[0] == texts[1] != texts[2]


def remembering(**options: object) -> Ask:
    return ask(memory=MemoryOptions(**options))


@pytest.mark.parametrize(
    ("similarity", "asked", "expected"),
    [
        (0.95, None, MemoryUse.PREFILL),
        (0.95, 0.95, MemoryUse.DIRECT),
        (0.94, 0.95, MemoryUse.PREFILL),
        (None, 0.0, MemoryUse.PREFILL),
    ],
)
def test_nearly_the_same_question_is_answered_directly_where_asked(
    similarity: float | None, asked: float | None, expected: MemoryUse
) -> None:
    """Opt-in: without a similarity asked for, only the same question is."""
    near = replace(SIMILAR, similarity=similarity)

    assert plan(BASE, near, request=remembering(direct_similarity=asked)).use is expected


def test_direct_similarity_opens_no_other_door() -> None:
    """Out of scope, retired, a statement, within a conversation, or limited: no stored answer."""
    request = remembering(direct_similarity=0.0)
    near = replace(SIMILAR, similarity=1.0)
    later = replace(request, messages=(USER, REPLY, USER))
    limited = remembering(direct_similarity=0.0, max_use=MemoryUse.CONTEXT)

    assert plan(BASE, replace(near, is_in_scope=False), request=request).use is MemoryUse.NONE
    assert plan(BASE, replace(near, is_active=False), request=request).use is MemoryUse.NONE
    assert plan(BASE, replace(near, is_correction=False), request=request).use is MemoryUse.CONTEXT
    assert plan(BASE, near, request=later).use is MemoryUse.PREFILL
    assert plan(BASE, near, request=limited).use is MemoryUse.CONTEXT


OTHER = replace(SIMILAR, memory="users/u/memories/other", question="Island of Zor?", answer="Ko")
NOTE = replace(OTHER, memory="users/u/memories/note", is_correction=False)
AWAY = replace(OTHER, memory="users/u/memories/away", is_in_scope=False)
RETIRED = replace(OTHER, memory="users/u/memories/retired", is_active=False)


@pytest.mark.parametrize(
    ("max_memories", "expected"),
    [(1, (SIMILAR,)), (2, (SIMILAR, OTHER)), (20, (SIMILAR, OTHER, NOTE))],
)
def test_more_memories_only_on_request_and_in_scope(
    max_memories: int, expected: tuple[Hit, ...]
) -> None:
    """The best one alone by default, for small models mix several up."""
    request = remembering(max_memories=max_memories)
    made = plan(BASE, SIMILAR, AWAY, RETIRED, OTHER, NOTE, request=request)

    assert made.hits == expected
    assert [made.use_of(hit) for hit in made.hits] == (
        [MemoryUse.PREFILL] + [MemoryUse.CONTEXT] * (len(expected) - 1)
    )
    assert made.use_of(AWAY) is MemoryUse.NONE


def test_direct_answer_is_one_memory() -> None:
    """The stored answer is the reply; there is nothing to add to it."""
    assert plan(BASE, HIT, OTHER, request=remembering(max_memories=5)).hits == (HIT,)


def test_memories_over_the_budget_are_left_out() -> None:
    """The plan says which ones are used; with none left the chat is the caller's own."""
    long = replace(OTHER, answer="long " * 100)
    request = remembering(max_memories=2, max_context_tokens=200)
    made, chat = with_memory(request, plan(BASE, SIMILAR, long, request=request), len)
    nothing, plain = with_memory(request, plan(BASE, long, SIMILAR, request=request), len)

    assert made.hits == (SIMILAR,)
    assert "long" not in chat[-1].text
    assert (nothing.hits, nothing.use, lead_of(nothing)) == ((), MemoryUse.NONE, "")
    assert plain == request.messages


SYSTEM, USER = Message("system", "Be brief."), Message("user", "capital of zor")
REPLY = Message("assistant", "Hello")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((SYSTEM, USER), MemoryUse.DIRECT),
        ((USER, REPLY, USER), MemoryUse.PREFILL),
        ((SYSTEM, USER, REPLY, USER), MemoryUse.PREFILL),
        ((REPLY, USER), MemoryUse.PREFILL),
        ((USER, USER), MemoryUse.PREFILL),
    ],
)
def test_only_a_single_question_is_answered_directly(
    messages: tuple[Message, ...], expected: MemoryUse
) -> None:
    """Within a conversation the same words may ask something else: the model has to read it."""
    assert plan(BASE, HIT, request=ask(messages=messages)).use is expected
