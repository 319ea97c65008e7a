"""Random appearance: hand-computed maps, what stays, and reproducible draws."""

from __future__ import annotations

import pytest
import torch
from swin_umamba.augmentation import RandIntensityMapd, RandRegionContrastd, RandShallowNetworkd, move_region
from swin_umamba.errors import InputError

TRANSFORMS = [RandIntensityMapd, RandShallowNetworkd, RandRegionContrastd]


def slice_with_two_organs() -> dict[str, torch.Tensor]:
    """Return a slice whose organs 1 and 2 have means of 10 and 20 on a background from 0 to 30."""
    image = torch.linspace(0, 30, 32).repeat(32, 1)[None]
    label = torch.zeros(1, 32, 32)
    image[0, 4:12, 4:12] = 10 + torch.tensor([-1.0, 1.0]).repeat(8, 4)
    label[0, 4:12, 4:12] = 1
    image[0, 20:28, 20:28] = 20
    label[0, 20:28, 20:28] = 2
    return {"image": image, "label": label}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_draws_depend_on_the_seed_alone_and_the_label_map_stays(transform):
    item = slice_with_two_organs()
    before = {key: value.clone() for key, value in item.items()}
    results = [transform("image", prob=1.0).set_random_state(seed)(item) for seed in (3, 3, 4)]
    assert torch.equal(results[0]["image"], results[1]["image"])
    assert not torch.equal(results[0]["image"], results[2]["image"])
    assert not torch.equal(results[0]["image"], item["image"])
    assert results[0]["image"].shape == item["image"].shape
    assert results[0]["image"].dtype == item["image"].dtype
    assert all(torch.equal(item[key], before[key]) for key in item)  # the input is not written to
    assert torch.equal(results[0]["label"], before["label"])


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_probability_zero_changes_nothing(transform):
    item = slice_with_two_organs()
    assert torch.equal(transform("image", prob=0.0).set_random_state(0)(item)["image"], item["image"])


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_constant_and_single_pixel_slices_stay_finite(transform):
    for shape in ((1, 8, 8), (1, 1, 1)):
        item = {"image": torch.full(shape, 2.5), "label": torch.ones(shape)}
        changed = transform("image", prob=1.0).set_random_state(0)(item)["image"]
        assert torch.isfinite(changed).all()


@pytest.mark.parametrize("transform", [RandIntensityMapd, RandShallowNetworkd])
def test_mean_and_deviation_of_the_slice_are_kept(transform):
    image = torch.randn(1, 40, 40, generator=torch.Generator().manual_seed(0)) * 3 + 7
    for seed in range(5):
        changed = transform("image", prob=1.0).set_random_state(seed)({"image": image})["image"]
        torch.testing.assert_close(changed.mean(), image.mean())
        torch.testing.assert_close(changed.std(), image.std())


def test_curve_is_linear_between_its_knots():
    transform = RandIntensityMapd("image", prob=1.0, knots=3)
    transform.randomize = lambda data=None: None
    transform._do_transform, transform._share = True, 1.0
    transform._values = torch.tensor([1.0, 0.0, 1.0])  # the middle becomes dark, both ends bright
    image = torch.linspace(0, 100, 101)[None, None]
    low, high = 1.0, 99.0  # its quantiles at 1 and 99 per cent
    place = ((image - low) / (high - low)).clamp(0, 1)
    expected = (2 * place - 1).abs()
    changed = transform({"image": image})["image"]
    expected = (expected - expected.mean()) / expected.std() * image.std() + image.mean()
    torch.testing.assert_close(changed, expected, atol=1e-3, rtol=1e-5)


def test_some_curves_turn_black_and_white_round():
    image = torch.linspace(-1, 1, 1024).view(1, 32, 32)
    transform = RandIntensityMapd("image", prob=1.0, whole=1.0).set_random_state(0)
    slopes = [torch.corrcoef(torch.stack([transform({"image": image})["image"].flatten(), image.flatten()]))[0, 1]
              for _ in range(20)]  # fmt: skip
    assert min(slopes) < -0.5
    assert max(slopes) > 0.5


def test_region_gets_mean_and_texture_and_nothing_else_moves():
    item = slice_with_two_organs()
    changed = move_region(item["image"], item["label"] == 1, mean=3.0, factor=0.5)
    inner = changed[0, 7:9, 7:9]  # three pixels from the border, out of the blur's reach
    torch.testing.assert_close(inner, torch.tensor([[3.5, 2.5], [3.5, 2.5]]), atol=1e-3, rtol=0)
    assert torch.equal(changed[0, 20:28, 20:28], item["image"][0, 20:28, 20:28])
    assert torch.equal(changed[0, 16:], item["image"][0, 16:])
    border = changed[0, 4, 8] - item["image"][0, 4, 8]
    assert 0.3 * -7 > border > 0.9 * -7  # half of the way at the border, not a cliff


def test_each_organ_is_drawn_by_itself():
    item = slice_with_two_organs()
    transform = RandRegionContrastd("image", prob=1.0, organ_prob=0.5).set_random_state(0)
    moved = []
    for _ in range(60):
        changed = transform(item)["image"]
        moved.append((changed[0, 8, 8] != item["image"][0, 8, 8], changed[0, 24, 24] != item["image"][0, 24, 24]))
    kinds = {(bool(a), bool(b)) for a, b in moved}
    assert kinds == {(False, False), (False, True), (True, False), (True, True)}
    assert 15 < sum(bool(a) for a, _ in moved) < 45


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandIntensityMapd("image", prob=1.5), "prob 1.5: legal: a chance from 0 to 1"),
        (lambda: RandIntensityMapd("image", knots=1), "knots 1 of RandIntensityMapd: legal: 2 or more"),
        (lambda: RandShallowNetworkd("image", layers=0), "layers 0 and width 2"),
        (lambda: RandRegionContrastd("image", texture=(1.0, 0.5)), "texture .1.0, 0.5. of RandRegionContrastd"),
        (lambda: RandRegionContrastd("image", organ_prob=-1), "organ_prob -1: legal"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(InputError, match=message):
        make()
