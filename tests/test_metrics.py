"""Scores against counting by hand, against DeepMind's surface-distance, and against the paper's rules one by one.

The bar of the hand-worked NSD: n voxels in a row along x, one voxel thick, voxels (sx, sy, sz) mm. Surface elements sit
on voxel corners, so at x = 0 ... n there are 4 each. The 8 at the two ends cut one voxel corner: a triangle through the
middles of three voxel edges, area c = sqrt((sy sz)² + (sx sz)² + (sx sy)²) / 8. The 4 (n - 1) others cut a voxel edge:
a rectangle, area e = sx sqrt(sy² + sz²) / 2. With spacing (1, 3, 4): c = 13 / 8, e = 5 / 2, and for n = 4 a bar's
surface is 8 c + 12 e = 43 mm².
* shifted by one voxel along x (1 mm), 4 elements of each bar are 1 mm off, the others 0: NSD = 1 - 6.5 / 43 below 1 mm
* shifted by one voxel along y (3 mm), half of the elements of each bar is 3 mm off: NSD = 1 / 2 below 3 mm
* along z (4 mm): 1 / 2 below 4 mm
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from swin_umamba.errors import InputError
from swin_umamba.metrics import false_positive_ml, mask_scores, organ_scores, slice_axis_of, summarise
from swin_umamba.rules import TOLERANCES_MM, labelled_organs, tolerances_for

SPACING = (1.0, 3.0, 4.0)
LABELS = {"liver": 1, "aorta": 2, "spleen": 3}
UNIT = (1.0, 1.0, 1.0)


def bar(start: tuple[int, int, int] = (1, 1, 1)) -> np.ndarray:
    """Return a mask (8, 5, 5) with four voxels in a row along x."""
    mask = np.zeros((8, 5, 5), dtype=bool)
    x, y, z = start
    mask[x : x + 4, y, z] = True
    return mask


def ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    axes = zip(np.ogrid[tuple(slice(size) for size in shape)], centre, radii, strict=True)
    return sum(((axis - c) / r) ** 2 for axis, c, r in axes) <= 1


def column(*slices: int, label: int = 1, x: int = 1) -> np.ndarray:
    """Return a label map (6, 6, 8): a 2 x 2 column of `label` on the given slices."""
    label_map = np.zeros((6, 6, 8), dtype=np.uint8)
    label_map[x : x + 2, 1:3, list(slices)] = label
    return label_map


HAND_CASES = [  # start of the other bar, tolerance in mm, Dice, NSD
    ((1, 1, 1), 0.5, 1.0, 1.0),
    ((2, 1, 1), 0.99, 2 * 3 / 8, 36.5 / 43),
    ((2, 1, 1), 1.0, 2 * 3 / 8, 1.0),
    ((1, 2, 1), 2.99, 0.0, 0.5),
    ((1, 2, 1), 3.0, 0.0, 1.0),
    ((1, 1, 2), 3.0, 0.0, 0.5),
    ((1, 1, 2), 3.99, 0.0, 0.5),
    ((1, 1, 2), 4.0, 0.0, 1.0),
]


@pytest.mark.parametrize(("start", "tolerance", "dice", "nsd"), HAND_CASES)
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0), (2, 0, 1)])
def test_shifted_bars_worked_by_hand_in_any_order_of_axes(start, tolerance, dice, nsd, order):
    first, second = (bar(at).transpose(order) for at in ((1, 1, 1), start))
    spacing = [SPACING[axis] for axis in order]
    for pair in ((first, second), (second, first)):
        scores = mask_scores(*pair, spacing=spacing, tolerance=tolerance)
        assert scores["dice"] == pytest.approx(dice, abs=1e-12)
        assert scores["nsd"] == pytest.approx(nsd, abs=1e-6)


def test_spacing_in_the_wrong_order_would_show():
    along_y = mask_scores(bar((1, 1, 1)), bar((1, 2, 1)), spacing=SPACING, tolerance=3.5)
    along_z = mask_scores(bar((1, 1, 1)), bar((1, 1, 2)), spacing=SPACING, tolerance=3.5)
    assert (along_y["nsd"], along_z["nsd"]) == (1.0, 0.5)


# values printed by surface-distance 0.1 (PyPI): compute_surface_dice_at_tolerance, compute_dice_coefficient
DEEPMIND_CASES = [  # shape, spacing, centre and radii of two ellipsoids, tolerance, NSD, Dice
    ((24, 20, 12), (1.5, 1.25, 4.0), ((11, 9, 5), (8, 6, 4)), ((12, 9, 6), (7, 7, 3)), 2.0, 0.7944026569, 0.7311046512),
    ((24, 20, 12), (1.5, 1.25, 4.0), ((11, 9, 5), (8, 6, 4)), ((12, 9, 6), (7, 7, 3)), 1.0, 0.4881030124, 0.7311046512),
    ((16, 30, 9), (0.8, 0.8, 7.7), ((0, 4, 4), (6, 9, 3)), ((1, 2, 4), (8, 6, 4)), 3.0, 0.9270392852, 0.6255380201),
    (
        (9, 9, 9),
        (3.0, 3.0, 3.0),
        ((4, 4, 4), (4.5, 4.5, 4.5)),
        ((4, 4, 4), (1.5, 1.5, 1.5)),
        9.2,
        0.9513723772,
        38 / 408,
    ),
    ((20, 20, 6), (2.0, 0.5, 5.0), ((5, 5, 2), (4, 4, 1)), ((15, 15, 4), (3, 4, 1)), 23.0, 0.9853537572, 0.0),
]


@pytest.mark.parametrize(("shape", "spacing", "first", "second", "tolerance", "nsd", "dice"), DEEPMIND_CASES)
def test_values_of_deepmind_surface_distance(shape, spacing, first, second, tolerance, nsd, dice):
    masks = ellipsoid(shape, *first), ellipsoid(shape, *second)
    scores = mask_scores(*masks, spacing=spacing, tolerance=tolerance)
    assert scores["nsd"] == pytest.approx(nsd, abs=1e-6)
    assert scores["dice"] == pytest.approx(dice, abs=1e-9)


def test_random_masks_against_deepmind_surface_distance():
    peer = pytest.importorskip("surface_distance", reason="pip install surface-distance to compare with it")
    random = np.random.default_rng(0)
    for _ in range(20):
        shape, spacing, tolerance = random.integers(4, 16, 3), random.uniform(0.4, 8, 3), random.uniform(0.5, 8)
        masks = [random.random(shape) < share for share in (0.3, 0.4)]
        distances = peer.compute_surface_distances(*masks, spacing)
        expected = peer.compute_surface_dice_at_tolerance(distances, tolerance)
        assert mask_scores(*masks, spacing=spacing, tolerance=tolerance)["nsd"] == pytest.approx(expected, abs=1e-6)


def test_an_organ_cut_by_the_edge_of_the_volume_has_its_surface_there():
    """The same two bars, in the middle of a volume and filling one up to its edges."""
    inside = mask_scores(bar((1, 1, 1)), bar((2, 1, 1)), spacing=SPACING, tolerance=0.5)
    edge = mask_scores(bar((1, 1, 1))[1:6, 1:2, 1:2], bar((2, 1, 1))[1:6, 1:2, 1:2], spacing=SPACING, tolerance=0.5)
    assert edge["nsd"] == pytest.approx(inside["nsd"], abs=1e-7)


def test_scores_per_organ_do_not_mix():
    truth = (bar() * 1 + bar((1, 3, 3)) * 3).astype(np.uint8)
    prediction = (bar((2, 1, 1)) * 1 + bar((1, 3, 3)) * 3).astype(np.uint8)
    tolerances = {"liver": 0.5, "spleen": 0.5}
    scores = organ_scores(prediction, truth, spacing=SPACING, labels=LABELS, tolerances=tolerances)
    assert list(scores) == ["liver", "aorta", "spleen"]
    assert scores["liver"]["dice"] == 0.75
    assert scores["liver"]["nsd"] == pytest.approx(36.5 / 43, abs=1e-6)
    assert scores["aorta"] == {"dice": None, "nsd": None}
    assert scores["spleen"] == {"dice": 1.0, "nsd": 1.0}


@pytest.mark.parametrize("convert", [torch.as_tensor, MetaTensor, lambda a: torch.as_tensor(a).float(), np.float64])
def test_kinds_of_label_map(convert):
    prediction, truth = (bar(at).astype(np.uint8) for at in ((2, 1, 1), (1, 1, 1)))
    scores = organ_scores(convert(prediction), convert(truth), spacing=SPACING, labels={"liver": 1})
    assert scores == {"liver": {"dice": 0.75, "nsd": 1.0}}  # 1 mm off, 5 mm allowed


@pytest.mark.parametrize(
    ("rules", "prediction", "truth", "expected"),
    [
        ("standard", column(), column(), None),  # in neither
        ("standard", column(1), column(), None),  # in the prediction only
        ("standard", column(), column(1), 0.0),  # in the truth only
        ("standard", column(1, 2), column(1, 2), 1.0),
        ("paper", column(), column(), 1.0),
        ("paper", column(1), column(), 0.0),
        ("paper", column(), column(1), 0.0),
        ("paper", column(1, 2), column(1, 2), 1.0),
    ],
)
def test_absent_organs(rules, prediction, truth, expected):
    scores = organ_scores(prediction, truth, spacing=UNIT, labels={"liver": 1}, rules=rules)
    assert scores == {"liver": {"dice": expected, "nsd": expected}}


PAPER_CASES = [  # slices of prediction and truth, Dice by counting 2 x 2 columns
    ((0, 1, 2, 3, 4, 5), (2, 3, 4), 1.0),  # only slices 2 and 3 count; what lies outside of them is not held against it
    ((2, 3), (2, 3, 4), 1.0),  # the upper slice of the truth may be missed
    ((3, 4), (2, 3, 4), 2 * 1 / 3),  # slice 2 missed, 3 found: 2 * 4 / (4 + 8)
    ((4,), (2, 3, 4), 0.0),  # nothing left of the prediction
    ((2,), (2,), None),  # nothing left of the truth
    ((), (2,), None),
    ((), (2, 3), 0.0),
]


@pytest.mark.parametrize(("found", "real", "dice"), PAPER_CASES)
@pytest.mark.parametrize("organ", ["aorta", "inferior vena cava", "esophagus"])
def test_paper_rules_score_three_organs_on_the_slices_of_the_truth(organ, found, real, dice):
    scores = organ_scores(column(*found), column(*real), spacing=UNIT, labels={organ: 1}, rules="paper")
    assert scores[organ]["dice"] == (None if dice is None else round(dice, 4))
    assert (scores[organ]["nsd"] is None) == (dice is None)


def test_paper_rules_score_other_organs_on_all_slices():
    scores = organ_scores(column(2, 3), column(2, 3, 4), spacing=UNIT, labels={"liver": 1}, rules="paper")
    assert scores["liver"]["dice"] == 0.8  # 2 * 8 / (8 + 12)
    standard = organ_scores(column(2, 3), column(2, 3, 4), spacing=UNIT, labels={"aorta": 1})
    assert standard["aorta"]["dice"] == 0.8


def test_paper_rules_round_to_four_digits():
    maps = bar((2, 1, 1)).astype(np.uint8), bar().astype(np.uint8)
    arguments = {"spacing": SPACING, "labels": {"liver": 1}, "tolerances": {"liver": 0.5}}
    assert organ_scores(*maps, **arguments, rules="paper")["liver"]["nsd"] == 0.8488
    assert organ_scores(*maps, **arguments)["liver"]["nsd"] == pytest.approx(36.5 / 43, abs=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_paper_rules_find_the_slice_axis_they_are_told(axis):
    prediction, truth = (np.moveaxis(column(*slices), 2, axis) for slices in ((2, 3), (2, 3, 4)))
    arguments = {"spacing": UNIT, "labels": {"aorta": 1}, "rules": "paper"}
    assert organ_scores(prediction, truth, **arguments, slice_axis=axis)["aorta"]["dice"] == 1.0
    assert organ_scores(prediction, truth, **arguments, slice_axis=(axis + 1) % 3)["aorta"]["dice"] < 1.0


@pytest.mark.parametrize(
    ("columns", "axis"),
    [((0, 1, 2), 2), ((0, 2, 1), 1), ((2, 0, 1), 0)],  # patient axis that each voxel axis runs along
)
def test_slice_axis_follows_the_affine(columns, axis):
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, 1.0, -5.0])[:, columns]
    affine[0, 0] += 0.1  # slightly oblique
    assert slice_axis_of(affine) == axis
    assert slice_axis_of(torch.as_tensor(affine)) == axis


def test_organs_that_are_not_annotated_are_left_out():
    truth, prediction = column(1, 2), column(1, 2) + column(1, 2, label=3, x=3)
    arguments = {"spacing": UNIT, "labels": LABELS, "labelled": [1, 2]}
    assert list(organ_scores(prediction, truth, **arguments)) == ["liver", "aorta"]
    assert false_positive_ml(prediction, truth, **arguments) == {}
    assert labelled_organs(LABELS, torch.tensor([2])) == {"aorta": 2}


def test_false_positives_are_told_in_ml():
    truth = column(1, 2)  # 8 voxels of liver
    prediction = column(1) + column(4, 5, 6, label=3)  # 12 voxels of spleen, of 1.5 * 2 * 5 = 15 mm³
    volumes = false_positive_ml(prediction, truth, spacing=(1.5, 2.0, 5.0), labels=LABELS)
    assert volumes == {"spleen": pytest.approx(0.18, abs=1e-12)}


def test_summary_by_hand():
    cases = [
        {"liver": {"dice": 0.9, "nsd": 0.8}, "aorta": {"dice": 0.5, "nsd": None}},
        {"liver": {"dice": 0.7, "nsd": 0.4}, "aorta": {"dice": None, "nsd": None}},
        {"liver": {"dice": 0.8, "nsd": 0.9}},
    ]
    summary = summarise(cases)
    liver, aorta = summary["organs"]["liver"], summary["organs"]["aorta"]
    assert liver["dice"] == {"mean": pytest.approx(0.8), "std": pytest.approx(0.1), "n": 3}
    assert liver["nsd"] == {"mean": pytest.approx(0.7), "std": pytest.approx(math.sqrt(0.14 / 2)), "n": 3}
    assert aorta["dice"] == {"mean": 0.5, "std": None, "n": 1}
    assert aorta["nsd"] == {"mean": None, "std": None, "n": 0}
    assert summary["mean"] == {"dice": pytest.approx(0.65), "nsd": pytest.approx(0.7)}  # each organ counts the same


def test_summary_of_nothing():
    assert summarise([]) == {"mean": {"dice": None, "nsd": None}, "organs": {}}


def test_tolerances_of_the_paper_and_others():
    labels = {"liver": 1, "duodenum": 2, "prostate": 3, "spleen": 4}
    assert tolerances_for(labels, {"spleen": 1}) == {"liver": 5.0, "duodenum": 7.0, "prostate": 3.0, "spleen": 1.0}
    assert list(TOLERANCES_MM.values()) == [5, 3, 3, 5, 2, 2, 2, 2, 2, 3, 5, 7, 3]


BAD_INPUT = [
    ({"prediction": np.zeros((6, 6, 7))}, "shape"),
    ({"prediction": np.zeros(6), "truth": np.zeros(6)}, "3D or 2D"),
    ({"truth": column(1) * 0.5}, "value 0.5"),
    ({"truth": np.where(column(1), np.nan, 0)}, "value nan"),
    ({"prediction": column(1, label=9)}, "value 9"),
    ({"prediction": column(1) * -1.0}, "value -1"),
    ({"spacing": (1, 0, 1)}, "spacing"),
    ({"spacing": (1, -2, 1)}, "spacing"),
    ({"spacing": (1, math.nan, 1)}, "spacing"),
    ({"spacing": (1, 1)}, "spacing"),
    ({"tolerances": {"livr": 2}}, "livr"),
    ({"tolerances": {"liver": 0}}, "liver is 0"),
    ({"tolerances": {"liver": "2 mm"}}, "2 mm"),
    ({"labelled": [1, 7]}, "id 7"),
    ({"rules": "papers"}, "standard, paper"),
    ({"labels": {}}, "labels"),
    ({"labels": {"liver": 1, "spleen": 1}}, "distinct"),
    ({"labels": {"liver": 0}}, "from 1"),
]


@pytest.mark.parametrize(("changed", "message"), BAD_INPUT)
def test_bad_input_is_named(changed, message):
    arguments = {"prediction": column(1), "truth": column(1), "spacing": UNIT, "labels": LABELS, **changed}
    maps = arguments.pop("prediction"), arguments.pop("truth")
    with pytest.raises(InputError, match=message):
        organ_scores(*maps, **arguments)
