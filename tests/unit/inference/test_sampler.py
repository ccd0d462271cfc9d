"""Sampling: every knob does what it says, and a seed decides everything."""

import torch

from inference_svc.core import Sampling
from inference_svc.engine.sampler import RowSampler

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def draws(sampling: Sampling, count: int = 200) -> list[int]:
    sampler = RowSampler(sampling, ())
    return [sampler.choose(LOGITS) for _ in range(count)]


def test_temperature_zero_is_the_likeliest() -> None:
    """Greedy takes the highest logit, always."""
    assert set(draws(Sampling())) == {0}


def test_same_seed_gives_the_same_draws() -> None:
    """Two rows with one seed agree; another seed differs."""
    first = draws(Sampling(temperature=1.0, seed=7))

    assert first == draws(Sampling(temperature=1.0, seed=7))
    assert first != draws(Sampling(temperature=1.0, seed=8))


def test_seed_may_use_all_64_bits() -> None:
    """The largest seed of the contract is accepted."""
    assert draws(Sampling(temperature=1.0, seed=(1 << 64) - 1), 3)


def test_top_k_keeps_the_best_k() -> None:
    """Nothing beyond the k likeliest is ever drawn."""
    assert set(draws(Sampling(temperature=1.5, top_k=2))) == {0, 1}


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    """0.5 + 0.3 reach 0.8; a tiny p still leaves one token."""
    assert set(draws(Sampling(temperature=1.0, top_p=0.8))) == {0, 1}
    assert set(draws(Sampling(temperature=1.0, top_p=0.01))) == {0}


def test_min_p_drops_what_is_far_below_the_best() -> None:
    """0.2 of the best is 0.1: the last token is below it."""
    assert set(draws(Sampling(temperature=1.0, min_p=0.2))) == {0, 1, 2}


def test_repetition_penalty_covers_prompt_and_output() -> None:
    """A token of the prompt becomes less likely, then the one just said."""
    logits = torch.tensor([2.0, 1.8, 1.7])
    sampler = RowSampler(Sampling(repetition_penalty=2.0), [0])

    assert [sampler.choose(logits) for _ in range(2)] == [1, 2]


def test_frequency_and_presence_penalty_count_output_only() -> None:
    """What the prompt says is free; each repetition costs."""
    logits = torch.tensor([2.0, 1.5, 0.0])
    frequent = RowSampler(Sampling(frequency_penalty=0.3), [0, 0, 0])
    present = RowSampler(Sampling(presence_penalty=0.6), [0])

    assert [frequent.choose(logits) for _ in range(4)] == [0, 0, 1, 0]
    assert [present.choose(logits) for _ in range(3)] == [0, 1, 0]


def test_only_plain_greedy_rows_take_the_argmax_as_given() -> None:
    """A row with penalties or a temperature looks at its own logits."""
    knobs = [Sampling(), Sampling(presence_penalty=0.1), Sampling(temperature=1.0, top_k=1)]

    assert [RowSampler(each, ()).choose(LOGITS, 3) for each in knobs] == [3, 0, 0]
