"""Objects of a label map, what a network learns of them, and F1 by hand."""

from __future__ import annotations

import numpy as np
import pytest
from swin_umamba import instances
from swin_umamba.errors import InputError
from swin_umamba.instances import classes_of, instance_scores, instances_of, mean_scores


def squares(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """Return numbered rectangles: top, left, height, width."""
    found = np.zeros(size, np.int32)
    for number, (top, left, height, width) in enumerate(boxes, start=1):
        found[top : top + height, left : left + width] = number
    return found


def test_pieces_of_one_label_are_objects_and_diagonals_hold_together():
    labels = np.zeros((6, 8), np.uint8)
    labels[0:2, 0:2] = labels[2, 2] = 1
    labels[4:6, 4:8] = 1
    labels[0, 6] = 2
    found = instances_of(labels, 1)
    assert found.max() == 2
    assert found[0, 0] == found[2, 2] != found[5, 5]
    assert found[0, 6] == 0


def test_classes_part_touching_cells():
    cells = squares((5, 5, 12, 12), (5, 17, 12, 12))
    classes = classes_of(cells)
    # 12 wide: one pixel of edge, one more inside, and one outside but for the four corners of a cell
    expected = np.zeros_like(cells)
    expected[4:18, 5:29] = expected[5:17, 4:30] = 2
    expected[7:15, 7:15] = expected[7:15, 19:27] = 1
    np.testing.assert_array_equal(classes, expected)
    assert instances_of(classes, 1).max() == 2


def test_interior_of_less_than_16_pixels_is_left_out():
    assert 1 not in classes_of(squares((5, 5, 7, 7)))  # 3 x 3 inside
    assert (classes_of(squares((5, 5, 8, 8))) == 1).sum() == 16


def test_f1_by_hand():
    truth = squares((5, 5, 10, 10), (5, 30, 10, 10), (25, 5, 10, 10), (0, 50, 6, 6))  # the last is cut by the edge
    found = squares(
        (5, 5, 10, 10),  # the same
        (5, 30, 10, 5),  # 50 of 100 pixels: just matches
        (25, 5, 10, 4),  # 40 of 100 pixels: does not
        (25, 30, 6, 6),  # nothing there
        (38, 50, 2, 4),  # cut by the edge
    )
    assert instance_scores(found, truth) == {
        "f1": round(2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3), 4),
        "precision": 0.5,
        "recall": 0.6667,
        "matched": 2,
        "found": 4,
        "truth": 3,
    }


def test_two_pixels_at_the_edge_cut_a_cell_off_and_the_third_does_not():
    for gap, count in ((0, 0), (1, 0), (2, 1)):
        for box in ((gap, 20, 8, 8), (20, gap, 8, 8), (32 - gap, 20, 8, 8), (20, 52 - gap, 8, 8)):
            cell = squares(box)
            assert instance_scores(cell, cell)["truth"] == count, box


def test_one_object_matches_one():
    """Two halves of exactly 0.5 each: only one of them is right."""
    scores = instance_scores(squares((10, 10, 10, 5), (10, 15, 10, 5)), squares((10, 10, 10, 10)))
    assert (scores["matched"], scores["found"], scores["truth"]) == (1, 2, 1)


@pytest.mark.parametrize(("n_found", "n_true"), [(0, 0), (1, 0), (0, 1)])
def test_nothing_matched_scores_0(n_found, n_true):
    box = (10, 10, 8, 8)
    scores = instance_scores(squares(*[box] * n_found), squares(*[box] * n_true))
    assert (scores["f1"], scores["found"], scores["truth"]) == (0.0, n_found, n_true)


def test_large_images_are_scored_in_tiles(monkeypatch):
    """Tiles of 20 cut the cell in the middle; the image's own end is filled up, so that its last cell counts."""
    monkeypatch.setattr(instances, "TILE", 20)
    cells = squares((5, 5, 8, 8), (16, 25, 8, 8), (28, 48, 7, 7), size=(35, 55))
    assert instance_scores(cells, cells)["truth"] == 2  # the last one lies at the edge
    monkeypatch.setattr(instances, "LARGE", 35 * 55)
    assert instance_scores(cells, cells) == {
        **{"f1": 1.0, "precision": 1.0, "recall": 1.0},
        **{"matched": 2, "found": 2, "truth": 2},  # the first and the last
    }


def test_sizes_must_agree():
    with pytest.raises(InputError, match=r"instances of \(40, 60\), true ones of \(40, 50\)"):
        instance_scores(squares(), squares(size=(40, 50)))


def test_means_over_images():
    images = [
        {"f1": 0.5, "precision": 0.5, "recall": 0.5, "matched": 1, "found": 2, "truth": 2},
        {"f1": 1.0, "precision": 1.0, "recall": 1.0, "matched": 4, "found": 4, "truth": 4},
        {"f1": 0.0, "precision": 0.0, "recall": 0.0, "matched": 0, "found": 0, "truth": 3},
    ]
    assert mean_scores(images) == {
        **{"f1": 0.5, "precision": 0.5, "recall": 0.5, "median_f1": 0.5},
        **{"matched": 5, "found": 6, "truth": 9, "images": 3},
    }


@pytest.mark.parametrize(("radius", "matched"), [(5, 0), (6, 0), (7, 1), (10, 1)])
def test_interior_of_small_cells_covers_less_than_half_of_them(radius, matched):
    """The paper's way: interior lies two pixels inside, and nothing grows it back."""
    rows, columns = np.ogrid[:40, :60]
    cell = ((rows - 20) ** 2 + (columns - 30) ** 2 < radius**2).astype(np.int32)
    assert instance_scores(instances_of(classes_of(cell), 1), cell)["matched"] == matched
