"""The lines that an export writes, as TRL's trainers name them."""

from feedback_svc.curating import TRAIN, Example
from feedback_svc.datasets.shapes import dpo_lines, kto_lines, sft_lines
from feedback_svc.signals import Kind

_SOURCE = {"lesson": "lessons/l", "feedback_event": "feedbackEvents/f"}
_PROMPT = [{"role": "user", "content": "Who?"}]
_IDA = [{"role": "assistant", "content": "Ida"}]
_BO = [{"role": "assistant", "content": "Bo"}]


def _example(kind: Kind, rejected: str = "", label: bool | None = None) -> Example:
    return Example(
        TRAIN, kind, "Who?", "Ida", rejected, label, (), "lessons/l", "feedbackEvents/f",
        "generations/g", "ann", "", 0.5, "",
    )  # fmt: skip


def test_a_correction_is_for_sft_alone() -> None:
    example = _example(Kind.CORRECTION)
    assert sft_lines(example) == [{"prompt": _PROMPT, "completion": _IDA, "provenance": _SOURCE}]
    assert dpo_lines(example) == kto_lines(example) == []


def test_a_preference_is_a_pair_and_two_labelled_answers() -> None:
    example = _example(Kind.PREFERENCE, rejected="Bo")
    pair = {"prompt": _PROMPT, "chosen": _IDA, "rejected": _BO, "provenance": _SOURCE}
    assert dpo_lines(example) == [pair]
    assert [(line["completion"], line["label"]) for line in kto_lines(example)] == [
        (_IDA, True),
        (_BO, False),
    ]


def test_a_judged_answer_is_labelled_and_never_imitated() -> None:
    example = _example(Kind.THUMBS, label=False)
    assert sft_lines(example) == dpo_lines(example) == []
    assert [line["label"] for line in kto_lines(example)] == [False]
