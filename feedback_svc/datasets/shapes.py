"""The lines that trainers of the TRL kind read: one example as SFT, DPO or KTO. Pure."""

from feedback_svc.curating import Example

Line = dict[str, object]


def sft_lines(example: Example) -> list[Line]:
    """What is right to say: corrections and preferences, never what was merely judged."""
    if example.label is not None:
        return []
    return [_line(example, completion=_said(example.completion))]


def dpo_lines(example: Example) -> list[Line]:
    if not example.rejected:
        return []
    return [_line(example, chosen=_said(example.completion), rejected=_said(example.rejected))]


def kto_lines(example: Example) -> list[Line]:
    """A judged answer is one line; a preference is two, a good one and a bad one."""
    if example.label is not None:
        return [_line(example, completion=_said(example.completion), label=example.label)]
    if not example.rejected:
        return []
    return [
        _line(example, completion=_said(example.completion), label=True),
        _line(example, completion=_said(example.rejected), label=False),
    ]


def _line(example: Example, **rest: object) -> Line:
    source = {"lesson": example.lesson, "feedback_event": example.feedback_event}
    return {"prompt": [_message("user", example.prompt)], **rest, "provenance": source}


def _said(text: str) -> list[dict[str, str]]:
    return [_message("assistant", text)]


def _message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}
