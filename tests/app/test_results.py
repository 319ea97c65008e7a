"""Files that an infer request gets back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from helpers_imaging import ORIENTATIONS, painted_in
from monai.data import MetaTensor

from monailabel_app.results import write_result


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_nrrd_lies_where_the_label_map_lies(tmp_path: Path, orientation: str, dtype: str) -> None:
    labels, affine = painted_in(orientation)
    file = write_result(MetaTensor(torch.from_numpy(labels[None]), affine), tmp_path, ".nrrd", dtype, False)
    found = sitk.ReadImage(file)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found).transpose(2, 1, 0), labels)
    assert sitk.GetArrayFromImage(found).dtype == dtype
    for voxel in ((0, 0, 0), (3, 0, 0), (0, 5, 0), (0, 0, 7)):
        expected = (np.diag([-1, -1, 1, 1]) @ affine @ [*voxel, 1])[:3]
        np.testing.assert_allclose(found.TransformIndexToPhysicalPoint(voxel), expected, atol=1e-5)


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="ndim|axes|dimension|shape"):
        write_result(MetaTensor(torch.zeros(1, 4), np.eye(4)), tmp_path, ".nrrd", "uint8", False)
    assert list(tmp_path.iterdir()) == []
