"""Label maps that no body looks like are remarked on."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from swin_umamba.anatomy_checks import warn_of_anatomy
from swin_umamba.case_warnings import collect_case_warnings

ORGANS = {"liver": 1, "spleen": 2, "Left_Kidney": 3, "aorta": 4}


def said_of(voxels, orientation="RAS", spacing=10.0):
    """Return what is remarked on a RAS label map (X, Y, Z) once it is stored in an orientation."""
    affine = torch.diag(torch.tensor([spacing, spacing, spacing, 1.0], dtype=torch.float64))
    labels = Orientation(orientation, labels=None)(MetaTensor(torch.as_tensor(voxels)[None], affine=affine))
    messages: list[str] = []
    with collect_case_warnings(messages):
        warn_of_anatomy(MetaTensor(labels), ORGANS)
    return messages


def body():
    """Return a label map with each organ where it belongs: the liver at high x, to the right."""
    voxels = np.zeros((30, 20, 12), np.uint8)
    voxels[20:28, 5:15, 3:9] = 1
    voxels[3:6, 5:10, 4:8] = 2
    voxels[5:8, 2:4, 3:6] = 3
    voxels[13:15, 4:6, :] = 4
    return voxels


def test_a_body_is_not_remarked_on():
    for orientation in ("RAS", "LPS", "SAR"):
        assert said_of(body(), orientation) == []


def test_sides_exchanged():
    for orientation in ("RAS", "LPS"):
        assert said_of(body()[::-1].copy(), orientation) == [
            "liver lies left of spleen: are left and right of the image exchanged?"
        ]


def test_too_large_in_pieces_cut_off_or_absent():
    assert said_of(body(), spacing=30.0)[0] == "liver of 12960 mL: more than 6000 mL is not this organ"
    voxels = body()
    voxels[3:6, 12:15, 4:8] = 2  # a second piece, 36 of 96 voxels
    assert said_of(voxels) == ["spleen is in 2 pieces, the largest 62% of it"]
    voxels = body()
    voxels[5:8, 2:4, 0:6] = 3
    assert said_of(voxels) == ["in the first or last slice, so perhaps not imaged as a whole: left kidney"]
    assert said_of(np.zeros((4, 4, 4), np.uint8)) == ["no organ was found"]
