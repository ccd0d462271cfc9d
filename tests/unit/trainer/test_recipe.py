"""The recipe: defaults, overrides and bounds."""

import pytest

from trainer_svc.training.recipe import LoraShape, Recipe


def test_an_empty_config_is_the_measured_recipe() -> None:
    """Absent, zero and empty settings all take the default."""
    config = {"learning_rate": 0, "max_epochs": 0, "lora_config": {"rank": 0, "layers": []}}

    assert Recipe.from_mapping({}) == Recipe.from_mapping(config) == Recipe()


def test_the_shape_fills_in_the_upper_half_and_twice_the_rank() -> None:
    """A resolved shape leaves nothing open."""
    shape = LoraShape(rank=8).resolve(6)

    assert shape.layers == (3, 4, 5)
    assert shape.alpha == 16.0
    assert len(shape.target_modules) == 7


def test_zero_kl_weight_is_a_value_and_not_the_default() -> None:
    """The pull towards the base can be switched off."""
    assert Recipe.from_mapping({"kl_weight": 0}).kl_weight == 0.0


def test_the_seed_of_the_job_holds_unless_the_config_has_its_own() -> None:
    """The config's seed wins."""
    assert Recipe.from_mapping({}, seed=7).seed == 7
    assert Recipe.from_mapping({"seed": 3}, seed=7).seed == 3


@pytest.mark.parametrize(
    "config",
    [
        {"learning_rate": -1},
        {"learning_rate": 0.2},
        {"max_epochs": -1},
        {"kl_weight": -0.1},
        {"lora_config": {"rank": -1}},
        {"lora_config": {"dropout": 1.0}},
        {"learning_rte": 0.004},
    ],
)
def test_nonsense_is_refused(config: dict[str, object]) -> None:
    """Out of bounds and misspelled settings never reach a training."""
    with pytest.raises(ValueError, match=r"must|unknown"):
        Recipe.from_mapping(config)


def test_layers_beyond_the_model_are_refused() -> None:
    """A shape for a deeper model does not fit."""
    with pytest.raises(ValueError, match="layers"):
        LoraShape(layers=(6,)).resolve(6)


def test_small_rounds_get_more_passes() -> None:
    """One step an epoch would be over before anything is learned."""
    recipe = Recipe()

    assert recipe.min_steps <= recipe.num_epochs(1)
    assert recipe.max_epochs == recipe.num_epochs(50)
