"""Who answers: pure rules that decide on memory and adapter from what the gate said.

Direct answer beats prefill beats nothing; in mode SCOPED an adapter speaks where it was taught.
"""

from collections.abc import Sequence
from dataclasses import replace

from inference_svc.core import Ask, Hit, MemoryState, MemoryUse, Message, Plan, Recollection
from inference_svc.revisions import AdapterReason, ScopeMode, Selection

# Opens the reply when a memory was put into the question: a small model then says it.
LEAD = "The answer is"


def needs_memory(ask: Ask, selection: Selection) -> bool:
    """With memory switched off its gate is still asked where it scopes an adapter."""
    is_scoped = selection.revision is not None and selection.scope_mode is ScopeMode.SCOPED
    return ask.memory.max_use is not MemoryUse.NONE or is_scoped


def decide(
    ask: Ask, selection: Selection, recollection: Recollection, *, applies_unscoped: bool
) -> Plan:
    """The best correction in scope decides for all; `applies_unscoped`: rule while memory is down.

    Statements (facts, preferences) help only where no correction applies, and scope no adapter.
    """
    in_scope = [hit for hit in recollection.hits if hit.is_in_scope]
    best = next((hit for hit in in_scope if hit.is_correction), None)
    used = best or next((hit for hit in in_scope if hit.is_active), None)
    use = _memory_use(ask, used)
    reason = _adapter_reason(selection, recollection, best)
    applies = reason in (AdapterReason.ALWAYS, AdapterReason.IN_SCOPE) or (
        reason is AdapterReason.SCOPE_UNKNOWN and applies_unscoped
    )
    if use is MemoryUse.DIRECT and applies:
        # The model does not run, so no adapter takes part.
        applies, reason = False, None
    lesson = best.lesson if best else ""
    return Plan(applies, reason, lesson, used if use is not MemoryUse.NONE else None, use)


def _memory_use(ask: Ask, hit: Hit | None) -> MemoryUse:
    """A RETIRED memory is never used: the weights know it, it only scopes the adapter."""
    limit = ask.memory.max_use
    if hit is None or not hit.is_active or not hit.answer:
        return MemoryUse.NONE
    # Earlier turns may turn the same words into another question ("And in Berlin?").
    is_answer = hit.is_correction and hit.is_exact and ask.is_single_question
    if is_answer and limit >= MemoryUse.DIRECT:
        return MemoryUse.DIRECT
    if not ask.messages:
        # A raw prompt is run as it is: there is no user turn to put anything into.
        return MemoryUse.NONE
    if ask.continues_reply or not hit.is_correction:
        return min(limit, MemoryUse.CONTEXT)
    return min(limit, MemoryUse.PREFILL)


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
    """The same plan when the memory turns out too long for its share of the prompt."""
    return replace(plan, hit=None, use=MemoryUse.NONE)


def with_memory(messages: Sequence[Message], hit: Hit) -> tuple[Message, ...]:
    """The chat with the fact in its last user turn, never in the system role."""
    last = max(index for index, message in enumerate(messages) if message.role == "user")
    asked = messages[last].text
    if hit.is_correction:
        text = (
            f'The correct answer to "{hit.question}" is "{hit.answer}".'
            f" Using this, answer briefly: {asked}"
        )
    else:
        text = f'Keep in mind: "{hit.answer}". {asked}'
    return (*messages[:last], Message("user", text), *messages[last + 1 :])


def lead_of(plan: Plan) -> str:
    """Text that opens the reply; part of what the caller gets."""
    return LEAD if plan.use is MemoryUse.PREFILL else ""
