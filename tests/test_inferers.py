from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_imaging import affine_of
from monai.data import MetaTensor
from monai.transforms import SpatialPad
from swin_umamba.case_warnings import CaseWarning
from swin_umamba.errors import InputError
from swin_umamba.inferers import AxialSliceInferer
from swin_umamba.transforms import InPlaneSpacingd
from torch import Tensor, nn


class Bands(nn.Module):
    """Logits that tell three bands of intensity, and keep what the network was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Tensor] = []
        self.bias = nn.Parameter(torch.tensor([-0.5, 0.0, 0.5]).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.calls.append(x)
        return -((x - 2 * self.bias) ** 2)


def volume(*shape: int, spacing: tuple[float, float, float] = (1.0, 1.0, 4.0)) -> MetaTensor:
    data = torch.from_numpy(np.random.default_rng(1).standard_normal(shape).astype(np.float32))
    affine = torch.from_numpy(affine_of("RAS", spacing)).expand(shape[0], 4, 4).clone()
    return MetaTensor(data, affine=affine)


def bands_of(image: Tensor) -> Tensor:
    return torch.where(image < -0.5, 0, torch.where(image > 0.5, 2, 1)).to(torch.uint8)


@pytest.mark.parametrize("slab_size", [1, 3, 64])
@pytest.mark.parametrize("roi_size", [(32, 48), (32, 32), (8, 16)], ids=["whole", "windows", "small windows"])
def test_every_slice_is_labelled_in_its_place(roi_size: tuple[int, int], slab_size: int) -> None:
    image = volume(2, 1, 20, 37, 7)
    network = Bands().train()
    labels = AxialSliceInferer(roi_size=roi_size, sw_batch_size=2, slab_size=slab_size)(image, network)
    assert labels.dtype == torch.uint8
    assert network.training  # it is given back as it came
    torch.testing.assert_close(labels.as_tensor(), bands_of(image.as_tensor()), rtol=0, atol=0)
    torch.testing.assert_close(labels.affine, image.affine, rtol=0, atol=0)


@pytest.mark.parametrize(("frame", "size"), [(True, (32, 48)), (False, (20, 37))])
def test_slices_within_the_roi_go_whole_and_in_batches(frame: bool, size: tuple[int, int]) -> None:
    network = Bands()
    inferer = AxialSliceInferer(roi_size=(32, 48), sw_batch_size=4, slab_size=6, frame=frame)
    inferer(volume(1, 1, 20, 37, 8), network)
    assert [tuple(call.shape) for call in network.calls] == [(4, 1, *size), (2, 1, *size), (2, 1, *size)]


@pytest.mark.parametrize("shape", [(1, 1, 20, 20, 1), (1, 1, 1, 3, 1), (1, 1, 5, 64, 2)])
def test_one_slice_and_tiny_slices_work(shape: tuple[int, ...]) -> None:
    image = volume(*shape)
    labels = AxialSliceInferer(roi_size=(32, 32), spacing=(2.0, 2.0))(image, Bands())
    assert labels.shape == image.shape


def test_plain_tensor_is_taken_when_nothing_is_resampled() -> None:
    image = volume(1, 1, 8, 9, 3).as_tensor()
    labels = AxialSliceInferer(roi_size=(16, 16))(image, Bands())
    assert type(labels) is Tensor
    assert torch.equal(labels, bands_of(image))
    with pytest.raises(InputError, match="must be a MetaTensor"):
        AxialSliceInferer(roi_size=(16, 16), spacing=(1, 1))(image, Bands())


def test_affine_without_a_batch_axis_is_taken() -> None:
    image = volume(1, 1, 20, 30, 2, spacing=(2.0, 1.0, 5.0))[0]  # as MONAI Label makes it: item, then [None]
    network = Bands()
    labels = AxialSliceInferer(roi_size=(40, 30), spacing=(1.0, 1.0))(image[None], network)
    assert network.calls[0].shape == (2, 1, 40, 30)
    assert labels.shape == (1, 1, 20, 30, 2)


@pytest.mark.parametrize("roi_size", [(128, 128), (53, 128), (52, 26)])
def test_network_sees_what_training_sees(roi_size: tuple[int, int]) -> None:
    image = volume(1, 1, 50, 41, 3, spacing=(1.3, 0.8, 5.0))
    network = Bands()
    AxialSliceInferer(roi_size=roi_size, spacing=(1.25, 1.25))(image, network)
    item = MetaTensor(image[0].as_tensor(), affine=image.affine[0])
    trained = InPlaneSpacingd("image", spacing=(1.25, 1.25))({"image": item})["image"]  # (C, x, y, S)
    trained = SpatialPad([*roi_size, -1])(trained)
    torch.testing.assert_close(network.calls[0], trained.as_tensor().permute(3, 0, 1, 2), rtol=1e-5, atol=1e-5)


def test_labels_come_back_to_the_images_own_grid() -> None:
    x, y = torch.meshgrid(torch.arange(60.0), torch.arange(48.0), indexing="ij")
    disk = ((x - 20) ** 2 + (y - 30) ** 2 < 12**2).float()[None, None, :, :, None] * 2 - 1
    image = MetaTensor(disk, affine=torch.from_numpy(affine_of("RAS", (1.0, 1.0, 3.0)))[None])
    labels = AxialSliceInferer(roi_size=(64, 64), spacing=(0.75, 1.5))(image, Bands())
    wrong = (labels == 2).as_tensor() != (disk > 0)
    inside = ((x - 20) ** 2 + (y - 30) ** 2 < 11**2)[None, None, :, :, None]
    outside = ((x - 20) ** 2 + (y - 30) ** 2 > 13**2)[None, None, :, :, None]
    assert not wrong[inside | outside].any()  # only pixels of the edge, a pixel to either side of it, may differ


class Leaning(nn.Module):
    """Logits with a drift along x and y, which mirroring must cancel."""

    def forward(self, x: Tensor) -> Tensor:
        drift = torch.linspace(-3, 3, x.shape[2]).view(1, 1, -1, 1) + torch.linspace(-2, 2, x.shape[3])
        return torch.cat([torch.zeros_like(x), x + drift], dim=1)


def test_mirroring_averages_over_both_axes() -> None:
    image = volume(1, 1, 24, 18, 2)
    plain = AxialSliceInferer(roi_size=(32, 32))(image, Leaning())
    both = AxialSliceInferer(roi_size=(32, 32), mirror_axes=[0, 1])(image, Leaning())
    expected = (image.as_tensor() > 0).to(torch.uint8)
    assert not torch.equal(plain.as_tensor(), expected)
    assert torch.equal(both.as_tensor(), expected)


def test_autocast_reaches_the_network_and_nothing_else() -> None:
    class Dense(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            assert y.dtype == torch.bfloat16
            return y

    network = Dense(1, 3, 1)
    for dtype in ("bfloat16", torch.bfloat16):
        labels = AxialSliceInferer(roi_size=(32, 32), amp_dtype=dtype)(volume(1, 1, 20, 20, 2), network)
        assert labels.dtype == torch.uint8


def test_constant_image_gives_an_empty_map_and_a_warning() -> None:
    image = MetaTensor(torch.full((1, 1, 8, 8, 2), 3.0))
    with pytest.warns(CaseWarning, match="constant: every voxel is 3"):
        labels = AxialSliceInferer(roi_size=(32, 32))(image, Bands())
    assert labels.sum() == 0


def test_long_pixels_reach_the_network_as_squares() -> None:
    """Of a coronal acquisition; a model without a spacing of its own takes square pixels as they are."""
    seen = []

    class Size(Bands):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(tuple(x.shape[2:]))
            return super().forward(x)

    for spacing in ((1.2, 3.6, 1.2), (1.2, 1.2, 6.0), (3.0, 4.0, 1.5)):
        AxialSliceInferer(roi_size=(64, 64), frame=False)(volume(1, 1, 30, 10, 2, spacing=spacing), Size())
    assert seen == [(30, 30), (30, 10), (30, 10)]


def test_output_that_is_not_finite_is_an_error() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x * float("nan")], dim=1)

    with pytest.raises(InputError, match=r"not finite in slices 0 and following; amp_dtype .*bfloat16"):
        AxialSliceInferer(roi_size=(32, 32), amp_dtype="bfloat16")(volume(1, 1, 8, 8, 2), Broken())


def test_absurd_spacing_is_an_error_and_not_a_memory_fault() -> None:
    with pytest.raises(InputError, match="legal: up to 8192"):
        AxialSliceInferer(roi_size=(32, 32), spacing=(0.5, 0.5))(volume(1, 1, 60, 60, 1, spacing=(90, 90, 4)), Bands())


BAD_ARGUMENTS = [
    {"roi_size": (32,)},
    {"roi_size": (0, 32)},
    {"sw_batch_size": 0},
    {"overlap": 1.0},
    {"mirror_axes": (2,)},
    {"slab_size": 0},
    {"amp_dtype": "int8"},
    {"spacing": (1.0, -1.0)},
]


@pytest.mark.parametrize("bad", BAD_ARGUMENTS, ids=lambda bad: next(iter(bad)))
def test_arguments_out_of_range_are_refused_by_name(bad: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(bad))}.*legal"):
        AxialSliceInferer(**{"roi_size": (32, 32), **bad})


MEMORY_PROGRAM = """
import resource, torch
from swin_umamba.inferers import AxialSliceInferer
torch.set_num_threads(1)
inferer = AxialSliceInferer(roi_size=(256, 256), sw_batch_size=4, slab_size=8)
for slices in (16, 160):
    image = torch.zeros(1, 1, 256, 256, slices)
    image[..., ::7] = 1
    inferer(image, torch.nn.Conv2d(1, 14, 1))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_memory_does_not_grow_with_the_number_of_slices() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "bundle")}
    environment["MALLOC_MMAP_THRESHOLD_"] = "65536"  # freed memory goes back, so that peaks compare
    command = [sys.executable, "-c", MEMORY_PROGRAM]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    few, many = (float(line) for line in run.stdout.split())  # peak resident memory in MiB
    volume_and_labels = 256 * 256 * 160 * (4 + 1) / 2**20
    assert many - few < volume_and_labels + 16  # the logits of 144 slices more would be 504
