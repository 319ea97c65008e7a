"""Confidence of organs: hand-computed soft Dice, slab by slab, and what is told."""

from __future__ import annotations

import math

import pytest
import torch
from swin_umamba.case_warnings import collect_case_warnings
from swin_umamba.confidence import OrganConfidence
from swin_umamba.errors import InputError
from swin_umamba.inferers import AxialSliceInferer

LABELS = {"liver": 1, "spleen": 2}


def logits() -> torch.Tensor:
    """Return (2, 3, 1, 2): liver with p 0.8 in one pixel of each slice, elsewhere background with p 0.9."""
    sure = torch.log(torch.tensor([[0.1, 0.8, 0.1], [0.9, 0.05, 0.05]]))  # (pixels, classes)
    return sure.T[None, :, None].repeat(2, 1, 1, 1)


def test_soft_dice_by_hand_and_by_slabs():
    meter = OrganConfidence(LABELS)
    for part in logits().split(1):
        meter.add(part, part.argmax(1))
    result = meter.result()
    expected = 2 * 1.6 / (2 * 0.85 + 2)
    assert result["organs"] == {"liver": pytest.approx(expected, abs=1e-4), "spleen": 0.0}
    assert result["case"] == pytest.approx(expected / 2, abs=1e-4)


def test_the_next_volume_starts_anew_and_doubt_is_told_once():
    meter = OrganConfidence(LABELS, doubtful=0.9)
    meter.add(logits(), logits().argmax(1))
    meter.start()
    meter.add(logits(), logits().argmax(1))
    messages: list[str] = []
    with collect_case_warnings(messages):
        meter.result()
    assert messages == ["low confidence, look closely: liver 0.86 (doubtful below 0.9)"]


def test_the_inferer_fills_it_for_each_volume():
    meter = OrganConfidence({"liver": 1})
    inferer = AxialSliceInferer(roi_size=[8, 8], slab_size=2, confidence=meter)
    image = torch.zeros(1, 1, 4, 4, 5)
    image[..., 2:, :, :] = 1

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x), (x - 0.5) * 2 * math.log(9)], 1)  # p 0.9 where bright, 0.1 elsewhere

    for _ in range(2):
        inferer(image, network)
        assert meter.result()["organs"]["liver"] == pytest.approx(2 * 0.9 / 2)


def test_a_constant_image_has_none():
    meter = OrganConfidence({"liver": 1})
    with pytest.warns(UserWarning, match="constant"):
        AxialSliceInferer(roi_size=[8, 8], confidence=meter)(torch.ones(1, 1, 4, 4, 2), lambda x: x)
    assert meter.result()["case"] == 0.0


def test_bad_threshold():
    with pytest.raises(InputError, match="doubtful 3"):
        OrganConfidence(LABELS, doubtful=3)
