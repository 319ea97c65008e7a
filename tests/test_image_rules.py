"""The rules for photographs: the paper's for endoscopy image by image, and outlines by the standard rules."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data import MetaTensor
from surface_distance import compute_surface_dice_at_tolerance, compute_surface_distances
from swin_umamba.metrics import mean_of_organs, organ_scores, summarise
from swin_umamba.report_files import format_table
from swin_umamba.reports import build_report, case_entry
from swin_umamba.rules import tolerances_for

LABELS = {"bipolar forceps": 1, "prograsp forceps": 2, "vessel sealer": 3, "ultrasound probe": 4}


def image(**boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Return a label map (30, 40): keywords "l<id>" are left, top, width, height."""
    labels = np.zeros((30, 40), np.uint8)
    for name, (x, y, width, height) in boxes.items():
        labels[x : x + width, y : y + height] = int(name[1:])
    return labels


def scores(found: np.ndarray, truth: np.ndarray, rules: str = "per_image", **kwargs):
    maps = (found[..., None], truth[..., None])
    return organ_scores(*maps, spacing=(1, 1, 1), labels=LABELS, rules=rules, **kwargs)


def test_union_of_labels_counts_and_the_rest_does_not():
    truth = image(l1=(2, 2, 10, 10), l2=(20, 20, 8, 8))
    found = image(l1=(2, 2, 10, 5), l3=(20, 2, 4, 4))
    result = scores(found, truth)
    assert result["bipolar forceps"]["dice"] == pytest.approx(2 * 50 / 150)
    assert result["prograsp forceps"] == {"dice": 0.0, "nsd": 0.0}  # only true
    assert result["vessel sealer"] == {"dice": 0.0, "nsd": 0.0}  # only found
    assert result["ultrasound probe"] == {"dice": None, "nsd": None}
    assert mean_of_organs(result)["dice"] == round((2 * 50 / 150) / 3, 4)
    assert mean_of_organs(scores(image(), image())) == {"dice": None, "nsd": None}


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 6])
def test_nsd_is_that_of_the_published_program(shift):
    """It gives its images a third axis of one slice, so that both faces of the slice are surface too."""
    truth, found = image(l1=(5, 6, 12, 9)), image(l1=(5 + shift, 6, 12, 9))
    distances = compute_surface_distances(truth[..., None] == 1, found[..., None] == 1, (1, 1, 1))
    expected = compute_surface_dice_at_tolerance(distances, 2)
    assert scores(found, truth)["bipolar forceps"]["nsd"] == pytest.approx(expected, abs=1e-6)


def test_without_background_the_lowest_label_does_not_count():
    truth = np.full((30, 40), 2, np.uint8)
    truth[:10] = 1
    result = scores(truth, truth)
    assert result["bipolar forceps"]["dice"] is None
    assert result["prograsp forceps"]["dice"] == 1.0


def test_tolerance_is_two_pixels_unless_it_is_said():
    assert tolerances_for({"vessel sealer": 1, "liver": 2}, rules="per_image") == {"vessel sealer": 2.0, "liver": 2.0}
    assert tolerances_for({"vessel sealer": 1}, {"vessel sealer": 5}, "per_image") == {"vessel sealer": 5.0}


def test_mean_is_over_images_and_not_over_labels():
    truth = image(l1=(2, 2, 10, 10))
    both = image(l1=(2, 2, 10, 10), l2=(20, 20, 8, 8))
    cases = [scores(both, both), scores(both, truth), scores(image(), image())]
    assert summarise(cases, "per_image")["mean"]["dice"] == pytest.approx((1.0 + 0.5) / 2)
    assert summarise(cases, "per_image")["organs"]["prograsp forceps"]["dice"]["mean"] == pytest.approx(0.5)
    assert summarise(cases)["mean"]["dice"] == pytest.approx((1.0 + 0.5) / 2)


def as_tensor(labels: np.ndarray) -> MetaTensor:
    return MetaTensor(labels[None, ..., None], affine=np.eye(4), meta={"filename_or_obj": "frame000.png"})


def entry(found: np.ndarray, truth: np.ndarray, rules: str):
    settings = {"labels": LABELS, "tolerances": tolerances_for(LABELS, rules=rules), "rules": rules}
    made = case_entry({"case": "a", "labelled": [1, 2, 3, 4]}, as_tensor(found), as_tensor(truth), **settings)
    return made, build_report([made], **settings)


def test_outline_by_the_standard_rules():
    """Of two squares 4 pixels apart no side is within 3 pixels (the default) of the other's; moved by 2, all are."""
    made, _ = entry(image(l1=(4, 4, 4, 4)), image(l1=(12, 4, 4, 4)), "standard")
    assert made["organs"]["bipolar forceps"] == {"dice": 0.0, "nsd": 0.0}
    made, _ = entry(image(l1=(4, 4, 4, 4)), image(l1=(6, 4, 4, 4)), "standard")
    assert made["organs"]["bipolar forceps"] == {"dice": 0.5, "nsd": 1.0}
    assert made["organs"]["ultrasound probe"] == {"dice": None, "nsd": None}
    assert made["spacing_mm"] == [1.0, 1.0]
    assert made["false_positive_ml"] == {}


def test_report_tells_means_of_images():
    made, report = entry(image(l1=(4, 4, 4, 4), l2=(20, 4, 4, 4)), image(l1=(4, 4, 4, 4)), "per_image")
    assert made["mean"] == {"dice": 0.5, "nsd": 0.5}
    assert report["mean"] == {"dice": 0.5, "nsd": 0.5}
    assert report["definitions"]["mean"].startswith("mean over images")
    assert report["tolerances_mm"]["vessel sealer"] == 2.0
    assert "mean of images" in format_table(report)
