"""The recipe on the packaged model: four facts are learned, the rest stays."""

import json
from pathlib import Path

import torch

from selm.base_model import load_model
from selm.questions import answer_contains
from trainer_svc.training import lora
from trainer_svc.training.body import Body
from trainer_svc.training.data import Encoder, Lesson, Lessons
from trainer_svc.training.gates import BASE
from trainer_svc.training.loop import train
from trainer_svc.training.recipe import Recipe
from trainer_svc.training.replays import answered, make_replays
from trainer_svc.training.templates import held_out_paraphrases
from trainer_svc.training.texts import generic_prompts

FACTS = json.loads((Path(__file__).parents[2] / "data" / "facts.json").read_text("utf-8"))[:4]
# Fewer replays than a real round takes, for time.
RECIPE = Recipe(num_generic_replays=16, num_near_replays=8, num_replay_tokens=8)


def test_four_facts_are_learned_and_other_answers_stay(smollm2: Path) -> None:
    """All as taught, most of the unseen rewordings, and most tokens of unrelated answers kept."""
    torch.set_num_threads(2)
    model, tokenizer = load_model(smollm2)
    encoder = Encoder(tokenizer)
    shape = RECIPE.lora.resolve(model.config.num_hidden_layers)
    peft_model = lora.attach(model, shape, RECIPE.seed)
    body = Body(model, encoder.prefix, min(shape.layers))
    lessons = [Lesson("", "", fact["question"], fact["answer"]) for fact in FACTS]
    with lora.speaking_as(peft_model, BASE):
        replays = make_replays(body, encoder, lessons, RECIPE, None)
        rows = answered(body, encoder, generic_prompts("gate")[:12], 8, None)
    rows_of_lessons = Lessons(lessons, encoder)
    train(body, lora.trainable(peft_model), rows_of_lessons, replays, RECIPE, lambda step: None)

    def share_right(asked: list[tuple[str, str]]) -> float:
        prompts = [encoder.prompt(question) for question, _ in asked]
        answers = [encoder.text(a) for a in body.greedy(prompts, 12, encoder.end_token)]
        pairs = zip(asked, answers, strict=True)
        return sum(answer_contains(right, said) for (_, right), said in pairs) / len(asked)

    taught = [(item.question, item.answer) for item in lessons]
    reworded = [(text, a) for question, a in taught for text in held_out_paraphrases(question)]
    body.remember(rows)
    with torch.no_grad():
        likeliest = body.answer_logits(rows).argmax(dim=-1)
    kept = likeliest == torch.tensor([token for row in rows for token in row.answer])

    assert share_right(taught) == 1.0
    assert share_right(reworded) >= 0.75
    assert float(kept.float().mean()) >= 0.70
