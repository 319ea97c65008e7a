"""Dice + cross-entropy over several heads, for data of which only some organs were annotated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from swin_umamba.distributed import sum_over_ranks
from swin_umamba.errors import InputError


class PartialDiceCELoss(nn.Module):
    """Soft Dice plus cross-entropy, 1:1, that does not punish organs which nobody annotated.

    Where a dataset did not annotate an organ, its voxels lie in the background of the label map. There the organ's
    probability counts as background (the marginal of both), and its Dice term is left out. With everything annotated it
    is nnU-Net's 2D loss: Dice over the whole batch, without background, plus the mean cross-entropy over all pixels.

    Several processes that train together add up their parts of the Dice term, so that the mean of their losses, and
    its gradient, are those of the whole batch in one process.

    Args:
        smooth: added to numerator and denominator of the Dice term.
    """

    def __init__(self, smooth: float = 1e-5) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
        """Compute the loss, in float32.

        Args:
            logits: (B, K, H, W), background first.
            target: (B, 1, H, W), ids 0…K-1 of any dtype.
            labelled: (B, K) bool, which classes were annotated in each sample; None means all.
        """
        classes = logits.shape[1]
        target = target[:, 0].long()  # (B, 1, H, W) -> (B, H, W)
        log_probability = logits.float().log_softmax(1)
        if labelled is not None and not bool(labelled[:, 1:].all()):
            log_probability = _merge_into_background(log_probability, ~labelled)
        cross_entropy = functional.nll_loss(log_probability, target)
        ids = torch.arange(classes, device=target.device).view(1, -1, 1, 1)
        one_hot = target[:, None] == ids  # (B, K, H, W); torch's one_hot would wait for the device
        return cross_entropy + self._dice(log_probability.exp()[:, 1:], one_hot[:, 1:].to(log_probability.dtype))

    def _dice(self, probability: Tensor, one_hot: Tensor) -> Tensor:
        """Return 1 - soft Dice over the batch of all processes, as the mean over classes; both are (B, K - 1, H, W)."""
        axes = (0, 2, 3)
        common = (probability * one_hot).sum(axes)
        common, sizes = sum_over_ranks(torch.stack([common, (probability + one_hot).sum(axes)]))  # (2, K - 1)
        return (1 - (2 * common + self.smooth) / (sizes + self.smooth)).mean()


def _merge_into_background(log_probability: Tensor, unlabelled: Tensor) -> Tensor:
    """Move the probability of unlabelled classes to the background, sample by sample.

    Args:
        log_probability: (B, K, H, W).
        unlabelled: (B, K) bool; the background's entry is ignored.
    """
    unlabelled = unlabelled[:, :, None, None].clone()  # (B, K) -> (B, K, 1, 1)
    unlabelled[:, 0] = False
    never = torch.finfo(log_probability.dtype).min
    merged = unlabelled.clone()
    merged[:, 0] = True
    background = log_probability.masked_fill(~merged, never).logsumexp(1, keepdim=True)
    kept = log_probability[:, 1:].masked_fill(unlabelled[:, 1:], never)
    return torch.cat([background, kept], dim=1)


class DeepSupervisionLoss(nn.Module):
    """Weighted sum of a loss over a network's heads, targets brought down by nearest neighbour.

    Heads of weight 0 are not computed, so that a NaN there cannot reach the sum.

    Args:
        loss: called as `loss(logits, target, labelled)`.
        weights: one for each head, full resolution first, at least one above 0, used as given; None takes
            `halving_weights` of as many heads as the network has.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if weights is not None and (not weights or min(weights) < 0 or max(weights) == 0):
            raise InputError(f"weights of deep supervision: {list(weights)}; legal: numbers >= 0, at least one above")
        self.loss = loss
        self.weights = None if weights is None else [float(weight) for weight in weights]

    def forward(self, heads: Tensor | Sequence[Tensor], target: dict[str, Tensor] | Tensor) -> Tensor:
        """Compute the loss.

        Args:
            heads: one output (B, K, H, W), or several, each (B, K, h, w).
            target: the label map (B, 1, H, W), or `{"label": that, "labelled": (B, K) bool}`.
        """
        if isinstance(target, Tensor):
            target = {"label": target}
        label, labelled = target["label"], target.get("labelled")
        if isinstance(heads, Tensor):
            return self.loss(heads, label, labelled)
        weights = halving_weights(len(heads)) if self.weights is None else self.weights
        if len(heads) != len(weights):
            raise InputError(f"{len(weights)} weights of deep supervision for {len(heads)} heads; give one for each")
        total = label.new_zeros((), dtype=torch.float32)
        for head, weight in zip(heads, weights, strict=True):
            if weight > 0:
                total = total + weight * self.loss(head, _resize_label(label, head.shape[2:]), labelled)
        return total


def halving_weights(heads: int) -> list[float]:
    """Return nnU-Net's and the paper's weights: 1, 1/2, 1/4 ... and 0 for the last head, normalised to a sum of 1."""
    weights = [0.5**i for i in range(max(heads - 1, 1))]
    return [weight / sum(weights) for weight in weights] + [0.0] * (heads - len(weights))


def _resize_label(label: Tensor, size: Sequence[int]) -> Tensor:
    """Bring a label map (B, 1, H, W) to `size` by nearest neighbour."""
    if tuple(label.shape[2:]) == tuple(size):
        return label
    return functional.interpolate(label.float(), size=tuple(size), mode="nearest-exact")
