"""Pictures as files."""

from __future__ import annotations

import numpy as np
from matplotlib.image import imread
from monai.data import MetaTensor
from swin_umamba.pictures import PICTURE_DPI, draw_case, save_picture
from torch import rand, zeros


def test_a_picture_has_the_pixels_that_matplotlib_saves(tmp_path):
    labels = zeros(1, 20, 16, 6)
    labels[:, 5:12, 4:9, 1:5] = 1
    volumes = {"liver": {"ml": 1.5, "voxels": 140}}
    image = MetaTensor(rand(labels.shape))
    figures = [draw_case("case", image, MetaTensor(labels), {"liver": 1}, volumes) for _ in range(2)]
    figures[0].savefig(tmp_path / "a.png", dpi=PICTURE_DPI)
    save_picture(figures[1], tmp_path / "b.png")
    expected = imread(tmp_path / "a.png")
    assert expected.std() > 0.1
    np.testing.assert_array_equal(imread(tmp_path / "b.png"), expected)
