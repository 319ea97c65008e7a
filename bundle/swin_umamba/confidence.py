"""How sure a network is of each organ, from its own probabilities: a number that falls when the result is bad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from swin_umamba.case_warnings import warn_of_case
from swin_umamba.errors import InputError


class OrganConfidence:
    """Estimate each organ's Dice from the probabilities, a slab of slices at a time, in bounded memory.

    The estimate is the soft Dice of the probabilities and the label map made from them, 2 Σ p m / (Σ p + Σ m): 1 where
    every voxel is certain, lower where the network wavers inside the organ or outside of it. An organ that was not
    found has 0. The case's number is the mean over its organs. It is not a probability, and a network can be sure and
    wrong; benchmarks/confidence.py shows how well it tells good results from bad ones.

    Args:
        labels: organ -> channel of the network, 1 or more.
        doubtful: organs below this are told to `swin_umamba.case_warnings`, 0 to 1.

    Raises:
        InputError: if `doubtful` is out of its range.
    """

    def __init__(self, labels: Mapping[str, int], *, doubtful: float = 0.0) -> None:
        if not 0 <= doubtful <= 1:
            raise InputError(f"doubtful {doubtful} of OrganConfidence: legal: 0 to 1")
        self.labels, self.doubtful = dict(labels), doubtful
        self.start()

    def start(self) -> None:
        """Begin with a new volume."""
        size = max(self.labels.values()) + 1
        self._both, self._sum = (torch.zeros(size, dtype=torch.float64) for _ in range(2))

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Take in a slab.

        Args:
            logits: (S, K, X, Y) on the volume's own grid.
            labels: (S, X, Y), the label map made from them.
        """
        whole = torch.logsumexp(logits, 1)  # (S, X, Y)
        for number in self.labels.values():
            probability = torch.exp(logits[:, number] - whole)  # (S, X, Y)
            region = labels == number
            self._both[number] += float((probability * region).sum())
            self._sum[number] += float(probability.sum()) + float(region.sum())

    def result(self) -> dict[str, Any]:
        """Return {"case": mean over organs, "organs": {organ: 0 to 1}}, and tell of doubtful organs."""
        both, total = self._both.tolist(), self._sum.tolist()
        organs = {organ: round(2 * both[n] / total[n], 4) if both[n] > 0 else 0.0 for organ, n in self.labels.items()}
        low = [f"{organ} {value:.2f}" for organ, value in organs.items() if 0 < value < self.doubtful]
        if low:
            warn_of_case(f"low confidence, look closely: {', '.join(low)} (doubtful below {self.doubtful:g})")
        return {"case": round(sum(organs.values()) / len(organs), 4), "organs": organs}
