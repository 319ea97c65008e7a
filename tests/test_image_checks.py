"""Images unlike the training images are remarked on, and those that would give strips are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from swin_umamba.case_warnings import collect_case_warnings
from swin_umamba.errors import InputError
from swin_umamba.image_checks import CheckFamiliard, acquired_plane, describe_images


def image_of(spacing, shape=(10, 10, 10), low=0.0, **meta):
    """Return a RAS image with a spacing in mm."""
    voxels = torch.linspace(low, 500, int(np.prod(shape))).reshape(1, *shape)
    return MetaTensor(voxels, affine=torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)), meta=meta)


def said_of(image, **arguments):
    """Return what is remarked."""
    messages: list[str] = []
    with collect_case_warnings(messages):
        CheckFamiliard(**arguments)({"image": image})
    return messages


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [
        ((1.2, 1.2, 6.0), "axial"),
        ((1.2, 6.0, 1.2), "coronal"),
        ((6.0, 1.2, 1.2), "sagittal"),
        ((1.5, 2.0, 1.5), "axial"),  # nearly cubic: as good in any plane
        ((3.0, 3.0, 1.5), "axial"),
    ],
)
def test_planes(spacing, plane):
    assert acquired_plane(spacing) == plane


def test_coarse_coronal_slices_are_refused_and_fine_ones_marked():
    with pytest.raises(InputError, match=r"acquired in coronal slices 6 mm apart.*legal: an axial acquisition"):
        said_of(image_of((1.2, 6.0, 1.2)))
    assert said_of(image_of((1.2, 6.0, 1.2)), coarsest=8) != []
    (message,) = said_of(image_of((2.5, 1.2, 1.2)))
    assert "in sagittal ones, 2.5 mm apart" in message
    assert said_of(image_of((1.2, 1.2, 8.0))) == []


def test_modality_and_air_of_ct():
    assert said_of(image_of((1, 1, 1), low=-1024)) == [
        "the darkest voxel is -1024, like air in CT; the model was trained on MR"
    ]
    assert said_of(image_of((1, 1, 1), modality="CT")) == ["the image's modality is CT, the model was trained on MR"]
    assert said_of(image_of((1, 1, 1), low=-1024, modality="MR")) == []


def test_ranges_of_the_training_images():
    stored = MetaTensor(Orientation("LPI", labels=None)(image_of((1.0, 2.0, 5.0), (30, 20, 8))))
    stored = stored.permute(0, 3, 1, 2)  # slices first
    order = torch.eye(4, dtype=torch.float64)[:, [2, 0, 1, 3]]
    stored.affine = stored.affine @ order
    stored.meta.update(original_affine=stored.affine.numpy(), spatial_shape=np.array(stored.shape[1:]))
    described = describe_images([stored, image_of((1.5, 1.5, 4.0), (40, 40, 10))])
    assert described == {
        "count": 2,
        "spacing": [[1.0, 1.5], [1.5, 2.0], [4.0, 5.0]],
        "field_of_view": [[30.0, 60.0], [40.0, 60.0], [40.0, 40.0]],
    }
    further = describe_images([image_of((0.5, 1.5, 4.5), (80, 30, 9))], earlier=described)
    assert further["count"] == 3
    assert further["spacing"] == [[0.5, 1.5], [1.5, 2.0], [4.0, 5.0]]


def test_what_lies_outside_of_the_ranges_is_said():
    trained_on = describe_images([image_of((1.5, 1.5, 5.0), (200, 200, 40))])
    assert said_of(image_of((1.2, 1.2, 6.0), (250, 250, 36)), trained_on=trained_on) == []
    assert said_of(image_of((0.5, 0.5, 5.0), (200, 600, 40)), trained_on=trained_on) == [
        "voxels of 0.5 mm from left to right: the model was trained on 1.5 mm",
        "voxels of 0.5 mm from front to back: the model was trained on 1.5 mm",
        "a field of view of 100 mm from left to right: the model was trained on 300 mm",
    ]


def test_photographs_are_counted_and_pass():
    photograph = image_of((1, 1, 1), (40, 30, 1), filename_or_obj="a.png", spatial_shape=np.array([40, 30]))
    assert describe_images([photograph, photograph], {"count": 3}) == {"count": 5}
    assert said_of(photograph, modality="ES", trained_on=describe_images([image_of((3, 3, 3))])) == []


def test_image_of_two_axes_is_one_slice():
    slice_ = image_of((1.5, 2.0, 1.0), (40, 30, 1), spatial_shape=np.array([40, 30]))
    assert describe_images([slice_])["field_of_view"] == [[60.0, 60.0], [60.0, 60.0], [1.0, 1.0]]
