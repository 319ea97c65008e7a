"""Clean-up: hand-made organs, what goes, what stays, and that sides are kept."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from swin_umamba.case_warnings import collect_case_warnings
from swin_umamba.cleanup import CleanLabelsd, paired_organs
from swin_umamba.errors import InputError

LABELS = {"liver": 1, "right kidney": 2, "left kidney": 3}
AFFINE = torch.diag(torch.tensor([2.0, 2.0, 5.0, 1.0], dtype=torch.float64))


def cleaned(labels: torch.Tensor, image: torch.Tensor | None = None, **options) -> tuple[torch.Tensor, list[str]]:
    """Return the clean label map (X, Y, Z) and the remarks."""
    image = torch.ones(labels.shape) if image is None else image
    messages: list[str] = []
    item = {"image": MetaTensor(image[None], affine=AFFINE), "pred": MetaTensor(labels[None], affine=AFFINE)}
    with collect_case_warnings(messages):
        result = CleanLabelsd(labels=LABELS, **options)(item)["pred"]
    assert torch.equal(item["pred"].as_tensor()[0], labels)  # the input stays
    assert result.dtype == labels.dtype
    return result.as_tensor()[0], messages


def liver() -> torch.Tensor:
    """Return a map (60, 40, 12) with a liver of 20 x 20 x 8 voxels, 64 mL."""
    labels = torch.zeros(60, 40, 12, dtype=torch.uint8)
    labels[30:50, 10:30, 2:10] = 1
    return labels


def test_far_specks_go_near_and_large_pieces_stay():
    labels = liver()
    labels[2:5, 2:5, 5] = 1  # 50 mm away, 9 voxels
    labels[52:54, 15:20, 5] = 1  # 6 mm away: behind a fissure
    labels[2:12, 20:30, 4:7] = 1  # far, but a tenth of the whole
    result, _ = cleaned(labels)
    labels[2:5, 2:5, 5] = 0
    assert torch.equal(result, labels)


def test_an_organ_that_a_band_splits_stays_whole():
    labels = liver()
    labels[38:42] = 0  # a tumour, or a band of another label
    assert torch.equal(cleaned(labels)[0], labels)


def test_ends_in_air_go_and_are_told():
    labels, image = liver(), torch.zeros(60, 40, 12)
    image[..., :10] = 1.0
    labels[20:55, 5:35, 10:12] = 1  # the lung above
    result, messages = cleaned(labels, image)
    assert torch.equal(result, liver())
    assert messages == ["clean-up took 42.0 mL off the liver: far pieces, or ends in air"]


def test_a_liver_that_is_dark_everywhere_stays():
    image = torch.rand(60, 40, 12, generator=torch.Generator().manual_seed(0))
    image[liver() == 1] = 0.08
    assert torch.equal(cleaned(liver(), image)[0], liver())


def test_dark_slices_in_the_middle_stay():
    image = torch.ones(60, 40, 12)
    image[..., 5] = 0
    image[0] = 0
    assert torch.equal(cleaned(liver(), image)[0], liver())


def kidneys() -> torch.Tensor:
    """Return a map (60, 40, 12) with both kidneys; x grows to the right."""
    labels = torch.zeros(60, 40, 12, dtype=torch.uint8)
    labels[40:50, 10:20, 2:9], labels[10:20, 10:20, 2:9] = 2, 3
    return labels


def test_a_cap_with_the_wrong_side_gets_that_of_the_kidney_it_touches():
    labels = kidneys()
    labels[12:18, 12:18, 9] = 2
    result, _ = cleaned(labels)
    assert result[14, 14, 9] == 3
    assert (result == 2).sum() == (kidneys() == 2).sum()


def test_both_kidneys_called_right_are_told_apart_by_the_middle_of_the_body():
    labels, image = kidneys(), torch.zeros(60, 40, 12)
    image[5:55] = 1.0
    labels[labels == 3] = 2
    labels[40:50, 10:20, 9] = 2  # the larger one is the right one
    result, _ = cleaned(labels, image)
    assert (result[10:20, 10:20, 2:9] == 3).all()
    assert (result[40:50, 10:20, 2:10] == 2).all()


def test_a_horseshoe_kidney_keeps_its_halves():
    labels = kidneys()
    labels[30:40, 12:16, 4], labels[20:30, 12:16, 4] = 2, 3
    assert torch.equal(cleaned(labels)[0], labels)


@pytest.mark.parametrize("seed", range(4))
def test_what_lies_around_the_organs_changes_nothing(seed):
    random = torch.Generator().manual_seed(seed)
    labels, image = kidneys(), torch.rand(60, 40, 12, generator=random)
    labels[22:38, 5:35, 1:11] = 1
    specks = torch.rand(labels.shape, generator=random) < 0.002
    labels[specks] = torch.randint(4, labels.shape, generator=random, dtype=torch.uint8)[specks]
    small, messages = cleaned(labels, image, air_share=0)  # air is of the whole image
    padded = cleaned(*(torch.nn.functional.pad(x, (0, 0, 9, 3, 5, 5)) for x in (labels, image)), air_share=0)
    assert not torch.equal(small, labels)
    assert torch.equal(padded[0][5:-5, 9:-3], small)
    assert padded[0].count_nonzero() == small.count_nonzero()
    assert padded[1] == messages


def test_empty_maps_and_switched_off_steps():
    empty = torch.zeros(8, 8, 4, dtype=torch.uint8)
    assert torch.equal(cleaned(empty)[0], empty)
    labels = liver()
    labels[2, 2, 5] = 1
    assert torch.equal(cleaned(labels, speck_share=0.0)[0], labels)


def test_pairs_and_bad_numbers():
    assert paired_organs({**LABELS, "left lung": 4}) == [("left kidney", "right kidney")]
    with pytest.raises(InputError, match="speck_share 2"):
        CleanLabelsd(labels=LABELS, speck_share=2)
