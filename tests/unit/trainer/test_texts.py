"""The project's own prompts."""

from trainer_svc.training.texts import entities, generic_prompts, swap_prompts, swap_templates


def test_there_are_enough_texts() -> None:
    """At least 150 general prompts and 40 templates with a slot."""
    assert len(generic_prompts("training")) + len(generic_prompts("gate")) >= 150
    assert len(swap_templates("training")) + len(swap_templates("gate")) >= 40


def test_training_and_gate_share_nothing() -> None:
    """The gate asks what training never showed: no prompt, template or name is in both."""
    for texts in (generic_prompts, swap_templates):
        training = {text.casefold() for text in texts("training")}
        gate = {text.casefold() for text in texts("gate")}

        assert not training & gate
        assert len(training) == len(texts("training"))
        assert len(gate) == len(texts("gate"))
    assert not {e.name for e in entities("training")} & {e.name for e in entities("gate")}


def test_swap_prompts_are_filled_different_and_repeatable() -> None:
    """Every slot gets a fitting name; the seed decides the draw."""
    prompts = swap_prompts("training", 40, seed=1)

    assert len(set(prompts)) == 40
    assert not any("{" in prompt for prompt in prompts)
    assert prompts == swap_prompts("training", 40, seed=1)
    assert prompts != swap_prompts("training", 40, seed=2)
