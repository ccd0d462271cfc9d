"""The losses."""

import torch

from trainer_svc.training.objectives import completion_loss, divergence_from_base


def test_completion_loss_is_the_mean_over_answer_tokens() -> None:
    """Equal to the negative log probability written out; counts the tokens that are right."""
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    loss, right = completion_loss(logits, torch.tensor([0, 2]))
    by_hand = -(torch.log_softmax(logits, -1)[0, 0] + torch.log_softmax(logits, -1)[1, 2]) / 2

    assert torch.isclose(loss, by_hand)
    assert right == 1


def test_divergence_is_zero_for_the_base_itself_and_positive_elsewhere() -> None:
    """KL(base || adapter), averaged over tokens."""
    base = torch.tensor([[0.5, 1.5, -1.0], [0.0, 0.0, 3.0]])
    base_log_probs = torch.log_softmax(base, -1)
    other = torch.tensor([[1.5, 0.5, -1.0], [0.0, 0.0, 3.0]])
    p = base_log_probs[0].exp()
    by_hand = (p * (base_log_probs[0] - torch.log_softmax(other, -1)[0])).sum() / 2

    assert torch.isclose(divergence_from_base(base, base_log_probs), torch.tensor(0.0), atol=1e-6)
    assert torch.isclose(divergence_from_base(other, base_log_probs), by_hand)
