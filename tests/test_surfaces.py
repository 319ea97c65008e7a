"""The surface distance gives MONAI's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice
from swin_umamba.surfaces import surface_dice


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # of MONAI itself
@pytest.mark.parametrize("tolerance", [1.0, 2.5, 40.0])
def test_scattered_masks_score_as_with_monai(tolerance):
    random = np.random.default_rng(3)
    masks = [random.random((14, 9, 11)) < share for share in (0.05, 0.2)]
    spacing = (1.5, 2.5, 4.0)
    found, real = (torch.from_numpy(mask)[None, None] for mask in masks)
    options = {"include_background": True, "spacing": list(spacing), "use_subvoxels": True}
    expected = float(compute_surface_dice(found, real, class_thresholds=[tolerance], **options))
    assert surface_dice(*masks, spacing=spacing, tolerance=tolerance) == pytest.approx(expected, abs=1e-6)


def test_what_lies_exactly_at_the_tolerance_agrees():
    masks = np.zeros((2, 9, 3, 3), bool)
    masks[0, 2, 1, 1] = masks[1, 6, 1, 1] = True  # two voxels, 4 × 1.5 mm apart: each element has its twin at 6 mm
    assert surface_dice(*masks, spacing=(1.5, 1.5, 1.5), tolerance=6.0) == 1.0
    assert surface_dice(*masks, spacing=(1.5, 1.5, 1.5), tolerance=4.4) == 0.0
