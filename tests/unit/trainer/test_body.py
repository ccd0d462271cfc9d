"""The sliced model gives what the whole model gives."""

from pathlib import Path

import pytest
import torch

from tests.unit.trainer.tiny_lessons import Workbench, disturb, workbench
from trainer_svc.training import lora
from trainer_svc.training.data import Row
from trainer_svc.training.gates import BASE

QUESTIONS = ("Who?", "What is the capital of Velmora?", "Name three rivers in the far north.")


@pytest.fixture(scope="module")
def bench(tiny_learner: Path) -> Workbench:
    """A tiny model whose candidate changes every answer."""
    made = workbench(tiny_learner)
    disturb(made)
    return made


def test_cached_halves_predict_what_the_whole_model_predicts(bench: Workbench) -> None:
    """Rows of different lengths, padded together, shared opening and lower layers computed once."""
    rows = [bench.encoder.row(question, "Zorvane and more") for question in QUESTIONS]
    bench.body.remember(rows)
    with torch.no_grad():
        ours = bench.body.answer_logits(rows)
        theirs = []
        for row in rows:
            tokens = torch.tensor([[*bench.encoder.prefix, *row.inputs]])
            theirs.append(bench.peft_model(tokens).logits[0, -len(row.answer) :])

    assert torch.allclose(ours, torch.cat(theirs), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("arm", ["BASE", "CANDIDATE"])
def test_greedy_answers_equal_transformers_generate(bench: Workbench, arm: str) -> None:
    """Batched with padding, token for token, for the base and with an adapter on."""
    prompts = [bench.encoder.prompt(question) for question in QUESTIONS]
    with lora.speaking_as(bench.peft_model, arm):
        ours = bench.body.greedy(prompts, 10, bench.encoder.end_token)
        for prompt, answer in zip(prompts, ours, strict=True):
            tokens = torch.tensor([[*bench.encoder.prefix, *prompt]])
            theirs = bench.peft_model.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=10,
                do_sample=False,
            )[0, tokens.shape[1] :].tolist()

            assert list(answer) == theirs[: len(answer)]


def test_an_answer_does_not_depend_on_its_neighbours_in_the_batch(bench: Workbench) -> None:
    """Alone or together, also when others end early and leave the batch."""
    prompts = [bench.encoder.prompt(question) for question in QUESTIONS]
    end = bench.body.greedy(prompts[:1], 1, -1)[0][0]  # the first row ends at once
    together = bench.body.greedy(prompts, 8, end)

    assert together[0] == (end,)
    assert together == [bench.body.greedy([prompt], 8, end)[0] for prompt in prompts]


def test_no_prediction_that_is_not_finite_passes_as_an_answer(bench: Workbench) -> None:
    """A broken adapter is an error, not an arbitrary token."""
    name, parameter = next(iter(lora.trainable(bench.peft_model).items()))
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.fill_(float("nan"))
    prompt = bench.encoder.prompt("Who?")

    with pytest.raises(FloatingPointError):
        bench.body.greedy([prompt], 1, bench.encoder.end_token)
    with lora.speaking_as(bench.peft_model, BASE):
        assert bench.body.greedy([prompt], 1, bench.encoder.end_token), name
    with torch.no_grad():
        parameter.copy_(before)


def test_what_was_forgotten_is_computed_again(bench: Workbench) -> None:
    """Freeing the cache changes nothing but memory."""
    rows = [Row(bench.encoder.prompt("Who?"), (5, 6))]
    bench.body.remember(rows)
    with torch.no_grad():
        before = bench.body.answer_logits(rows)
        bench.body.forget()
        bench.body.remember(rows)

        assert torch.equal(before, bench.body.answer_logits(rows))
