"""Losses: say the right answer; elsewhere stay as the base model was. Pure tensor functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def completion_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """Mean cross entropy of the answer tokens, and how many of them are already the likeliest.

    logits [tokens, vocab], targets [tokens].
    """
    right = int((logits.argmax(dim=-1) == targets).sum())
    return functional.cross_entropy(logits, targets), right


def divergence_from_base(logits: Tensor, base_log_probs: Tensor) -> Tensor:
    """Mean over tokens of KL(base || adapter) = sum_v base(v) * (log base(v) - log adapter(v)).

    logits and base_log_probs [tokens, vocab].
    """
    log_probs = torch.log_softmax(logits, dim=-1)
    return functional.kl_div(log_probs, base_log_probs, reduction="batchmean", log_target=True)
