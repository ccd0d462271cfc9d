"""Who answers: pure rules that decide on memory and adapter from what the gate said.

Direct answer beats prefill beats nothing; in mode SCOPED an adapter speaks where it was taught.
"""

from collections.abc import Sequence
from dataclasses import replace

from inference_svc.core import Ask, Hit, MemoryState, Message, Plan, Recollection
from inference_svc.revisions import AdapterReason, ScopeMode, Selection
from selm.context_block import ContextBlock, Count, RecalledMemory, assemble, user_turn
from selm.memory_use import LEAD, MemoryUse, applicable_use


def needs_memory(ask: Ask, selection: Selection) -> bool:
    """With memory switched off its gate is still asked where it scopes an adapter."""
    is_scoped = selection.revision is not None and selection.scope_mode is ScopeMode.SCOPED
    return ask.memory.max_use is not MemoryUse.NONE or is_scoped


def decide(
    ask: Ask, selection: Selection, recollection: Recollection, *, applies_unscoped: bool
) -> Plan:
    """The best correction in scope decides for all; `applies_unscoped`: rule while memory is down.

    Statements (facts, preferences) scope no adapter, and help only where no correction is likely to
    apply; with corrections that are merely related they go by rank.
    """
    in_scope = [hit for hit in recollection.hits if hit.is_in_scope]
    likely = next((hit for hit in in_scope if hit.is_likely), None)
    best = likely or next((hit for hit in in_scope if hit.is_correction), None)
    used = likely or next((hit for hit in in_scope if hit.is_active), None)
    use = _memory_use(ask, used)
    reason = _adapter_reason(selection, recollection, best)
    applies = reason in (AdapterReason.ALWAYS, AdapterReason.IN_SCOPE) or (
        reason is AdapterReason.SCOPE_UNKNOWN and applies_unscoped
    )
    if use is MemoryUse.DIRECT and applies:
        # The model does not run, so no adapter takes part.
        applies, reason = False, None
    lesson = best.lesson if best else ""
    return Plan(applies, reason, lesson, _used(ask, used, in_scope, use), use)


def _memory_use(ask: Ask, hit: Hit | None) -> MemoryUse:
    if hit is None or not hit.answer:
        return MemoryUse.NONE
    limit = ask.memory.max_use
    if not ask.is_single_question:
        # Earlier turns may turn the same words into another question ("And in Berlin?").
        limit = min(limit, MemoryUse.PREFILL)
    if ask.continues_reply:
        limit = min(limit, MemoryUse.CONTEXT)
    use = applicable_use(limit, hit.gated, ask.memory.direct_similarity)
    if not ask.messages and use is not MemoryUse.DIRECT:
        # A raw prompt is run as it is: there is no user turn to put anything into.
        return MemoryUse.NONE
    return use


def _used(ask: Ask, best: Hit | None, in_scope: Sequence[Hit], use: MemoryUse) -> tuple[Hit, ...]:
    """The deciding memory, and behind it what else is live in scope, if more were asked for.

    Beside one that is likely to apply, merely related ones would only argue with it.
    """
    if best is None or use is MemoryUse.NONE:
        return ()
    if use is MemoryUse.DIRECT:
        return (best,)
    others = [
        hit
        for hit in in_scope
        if hit is not best
        and hit.is_active
        and hit.answer
        and not (hit.is_related and best.is_likely)
    ]
    return (best, *others)[: ask.memory.max_memories]


def _adapter_reason(
    selection: Selection, recollection: Recollection, best: Hit | None
) -> AdapterReason | None:
    if selection.revision is None:
        return selection.reason
    if selection.scope_mode is ScopeMode.ALWAYS:
        return AdapterReason.ALWAYS
    if recollection.state is MemoryState.DEGRADED:
        return AdapterReason.SCOPE_UNKNOWN
    if best is None:
        return AdapterReason.OUT_OF_SCOPE
    if best.lesson and best.lesson in selection.lessons:
        return AdapterReason.IN_SCOPE
    newest = selection.revision.newest_lesson_time
    if newest is None or best.create_time > newest:
        return AdapterReason.LESSON_NEWER
    return AdapterReason.LESSON_NOT_HELD


def without_memory(plan: Plan) -> Plan:
    """The same plan when the memories turn out too long."""
    return replace(plan, hits=(), use=MemoryUse.NONE)


def with_memory(ask: Ask, plan: Plan, count: Count) -> tuple[Plan, tuple[Message, ...]]:
    """The chat with its memories in the last user turn, and the plan with those that fit.

    Never in the system role, and never in what is kept: that is the chat as the caller sent it.
    """
    block = assemble(
        [_recalled(hit) for hit in plan.hits],
        count,
        ask.memory.max_context_tokens,
        # The seed and not chance: the same request gives the same text.
        ask.sampling.seed,
    )
    if not block.names:
        return without_memory(plan), ask.messages
    told = tuple(hit for hit in plan.hits if hit.memory in block.names)
    return replace(plan, hits=told), _in_last_turn(ask.messages, block)


def _recalled(hit: Hit) -> RecalledMemory:
    question = hit.question if hit.is_correction else ""
    return RecalledMemory(hit.memory, hit.answer, question, hit.is_related)


def _in_last_turn(messages: Sequence[Message], block: ContextBlock) -> tuple[Message, ...]:
    last = max(index for index, message in enumerate(messages) if message.role == "user")
    turn = Message("user", user_turn(messages[last].text, block))
    return (*messages[:last], turn, *messages[last + 1 :])


def lead_of(plan: Plan) -> str:
    """Text that opens the reply; part of what the caller gets."""
    return LEAD if plan.use is MemoryUse.PREFILL else ""
