"""Batches made on the device: hand-computed placements and matrices, draws by seed, what stays as it is."""

from __future__ import annotations

import pytest
import torch
from swin_umamba import batches
from swin_umamba.batches.artefacts import coarse_matrix, ghost_matrix
from swin_umamba.batches.draws import Draws, along_axes, gaussian_matrix, intensity_ranges
from swin_umamba.errors import InputError

CHANGES = [
    batches.RandBiasField(1.0),
    batches.RandBlur(1.0),
    batches.RandFieldOfView(1.0),
    batches.RandGamma(1.0),
    batches.RandGhost(1.0),
    batches.RandIntensityMap(1.0),
    batches.RandLinear(1.0),
    batches.RandLowResolution(1.0),
    batches.RandNoise(1.0, (0.1, 0.2)),
    batches.RandShallowNetwork(1.0),
    batches.RandTissueContrast(3, 1.0, organ_prob=1.0, groups=[[1, 2]]),
    batches.RandPlacement([20, 24], prob=1.0, bend_prob=1.0),
]
NAMES = [type(change).__name__ for change in CHANGES]


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    """Return two slices (2, 1, 20, 24) with organs 1 and 2."""
    image = torch.randn(2, 1, 20, 24, generator=torch.Generator().manual_seed(1))
    label = torch.zeros(2, 1, 20, 24)
    label[:, :, 4:10, 4:10] = 1
    label[:, :, 12:18, 12:20] = 2
    return image + label, label


@pytest.mark.parametrize("change", CHANGES, ids=NAMES)
def test_one_seed_gives_one_batch_and_inputs_stay(change):
    image, label = samples()
    before = image.clone(), label.clone()
    first, again, other = (change(image, label, Draws(seed)) for seed in (3, 3, 5))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == first[1].shape == image.shape
    assert torch.isfinite(first[0]).all()
    assert set(first[1].unique().tolist()) <= {0.0, 1.0, 2.0}
    assert torch.equal(image, before[0])
    assert torch.equal(label, before[1])


@pytest.mark.parametrize("change", CHANGES, ids=NAMES)
def test_flat_samples_stay_finite(change):
    image, label = torch.full((1, 1, 20, 24), 2.5), torch.ones(1, 1, 20, 24)
    assert torch.isfinite(change(image, label, Draws(0))[0]).all()


def test_placement_without_chance_and_shift_gives_the_slice():
    image, label = samples()
    result = batches.RandPlacement([20, 24], prob=0.0, shift=0.0)(image, label, Draws(0))
    torch.testing.assert_close(result[0], image, atol=1e-5, rtol=0)
    assert torch.equal(result[1], label)


def test_placement_cuts_the_middle_of_a_larger_slice():
    image, label = torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4] = label[0, 0, 4, 4] = 1
    place = batches.RandPlacement([9, 9], prob=1.0, degrees=0, zoom=[2, 2], stretch=0, shear=0, shift=0)
    zoomed, labels = place(image, label, Draws(0))
    torch.testing.assert_close(zoomed[0, 0, 4, 3:6], torch.tensor([0.5, 1.0, 0.5]))  # twice as large
    assert labels[0, 0, 4, 4] == 1


def test_organs_of_a_group_move_together_and_the_rest_stays():
    image, label = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    image[0, 0, :, :32] = 10
    label[0, 0, 8:28, 4:28], label[0, 0, 36:56, 4:28] = 1, 2
    change = batches.RandTissueContrast(
        3, 1.0, organ_prob=1.0, rest_prob=0.0, groups=[[1, 2]], together=1.0, dark=0.0, texture=(1.0, 1.0)
    )
    changed, _ = change(image, label, Draws(2))
    first, second = changed[0, 0, 18, 16], changed[0, 0, 46, 16]
    torch.testing.assert_close(first, second)
    assert abs(float(first) - 10) > 0.1
    torch.testing.assert_close(changed[0, 0, :, 40:], image[0, 0, :, 40:], atol=1e-4, rtol=0)


def test_matrices_of_lines():
    line = torch.eye(8)[None, None]  # each column an impulse
    blurred = along_axes(line, gaussian_matrix(8, torch.tensor([1.0])), torch.eye(8)[None])[0, 0]
    torch.testing.assert_close(blurred.sum(1), torch.ones(8))
    torch.testing.assert_close(blurred[4, 3] / blurred[4, 4], torch.tensor(-0.5).exp())
    flat = torch.full((8, 1), 3.0)
    torch.testing.assert_close(coarse_matrix(8, torch.tensor([0.4]))[0] @ flat, flat)
    ghosts = ghost_matrix(8, torch.tensor([0.5]), torch.tensor([0.25]))[0]
    assert ghosts[0].tolist() == [1.0, 0, 0, 0, 0.25, 0, 0, 0]


def test_ranges_leave_out_the_extremes():
    image = torch.arange(101.0).view(1, 1, 101, 1)
    low, high = intensity_ranges(image)
    assert (low.item(), high.item()) == (1.0, 99.0)


def volumes() -> list[dict[str, torch.Tensor]]:
    """Return two volumes of 3 and 5 slices; only the last slice of the second holds organ 2."""
    items = []
    for depth, side in ((3, 8), (5, 6)):
        image = torch.arange(float(depth)).expand(1, side, side, depth).clone()
        items.append({"image": image, "label": torch.zeros(1, side, side, depth), "labelled": torch.ones(3).bool()})
    items[1]["label"][0, 2, 2, 4] = 2
    return items


def test_batches_hold_organs_where_they_are_asked_for():
    loader = batches.SliceBatches(volumes(), batch_size=64, iterations=1, foreground=1.0)
    batch = loader.draw(0)
    assert batch["image"].shape == batch["label"].shape == (64, 1, 8, 8)
    assert "labelled" not in batch  # everything is
    of_second = batch["image"][:, 0, 0, 0] == 0  # padded by its lowest intensity
    with_organ = (batch["label"] == 2).flatten(1).any(1)
    assert with_organ.any()
    assert torch.equal(with_organ, of_second & (batch["image"].flatten(1).amax(1) == 4))


def test_a_training_goes_on_with_the_batch_that_is_due():
    loader, later = (batches.SliceBatches(volumes(), batch_size=4, iterations=9, seed=1) for _ in range(2))
    run = iter(loader)
    third = [next(run) for _ in range(3)][2]
    later.start_at(2)
    assert torch.equal(next(iter(later))["image"], third["image"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: batches.RandNoise(1.5),
        lambda: batches.RandGamma(0.5, gamma=(2, 1)),
        lambda: batches.RandIntensityMap(0.5, knots=1),
        lambda: batches.RandTissueContrast(3, 0.5, groups=[[1, 2], [2]]),
        lambda: batches.RandPlacement([0, 4]),
        lambda: batches.SliceBatches([], batch_size=1, iterations=1),
        lambda: batches.SliceBatches(volumes(), batch_size=0, iterations=1),
    ],
)
def test_what_is_not_legal_is_said(make):
    with pytest.raises(InputError, match="legal"):
        make()
