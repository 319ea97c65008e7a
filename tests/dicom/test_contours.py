from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from scipy import ndimage
from swin_umamba.dicom.contours import contours_of, fill, ring_at, signed_area


def random_mask(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.random(rng.integers(1, 40, size=2))
    if seed % 2:
        noise = ndimage.gaussian_filter(noise, 1.2)
    return noise > np.quantile(noise, rng.uniform(0.1, 0.9))


def filled_by_matplotlib(rings: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.indices(shape)
    centers = np.stack([columns.ravel(), rows.ravel()], axis=1)
    inside = np.zeros(shape, bool)
    for ring in rings:
        inside ^= Polygon(ring, closed=False).contains_points(centers).reshape(shape)
    return inside


@pytest.mark.parametrize("seed", range(60))
def test_any_mask_comes_back_with_its_parts_and_its_area(seed: int) -> None:
    mask = random_mask(seed)
    rings = contours_of(mask)
    np.testing.assert_array_equal(fill(rings, mask.shape), mask)
    parts = ndimage.label(mask)[1]  # joined by sides
    holes = ndimage.label(~np.pad(mask, 1), structure=np.ones((3, 3)))[1] - 1
    assert len(rings) == parts
    assert sum(abs(signed_area(ring)) for ring in rings) == pytest.approx(mask.sum() - 0.5 * parts + 0.5 * holes)


def test_one_pixel_is_a_diamond() -> None:
    (ring,) = contours_of(np.array([[0, 0, 0], [0, 0, 1]], bool))
    assert sorted(map(tuple, ring.tolist())) == [(1.5, 1.0), (2.0, 0.5), (2.0, 1.5), (2.5, 1.0)]  # column, row


def test_rectangle_has_no_needless_points() -> None:
    mask = np.zeros((9, 12), bool)
    mask[2:7, 1:11] = True
    (ring,) = contours_of(mask)
    assert len(ring) == 8  # four sides and four cut corners
    assert abs(signed_area(ring)) == pytest.approx(50 - 0.5)


def test_hole_is_a_keyhole_and_an_island_in_it_a_part() -> None:
    mask = np.zeros((30, 30), bool)
    mask[2:28, 2:28] = True
    mask[8:22, 8:22] = False
    mask[12:18, 12:18] = True
    outer, island = sorted(contours_of(mask), key=lambda ring: -abs(signed_area(ring)))
    assert abs(signed_area(outer)) == pytest.approx(26 * 26 - 14 * 14)
    assert abs(signed_area(island)) == pytest.approx(36 - 0.5)
    steps = np.abs(np.roll(outer, -1, axis=0) - outer).sum(1)
    there, back = np.argsort(steps)[-2:]  # no channel is longer than a side of the square
    assert steps.max() <= 26
    assert there != back
    np.testing.assert_array_equal(filled_by_matplotlib([outer, island], mask.shape), mask)


def test_hole_belongs_to_the_innermost_part_around_it() -> None:
    mask = np.zeros((30, 30), bool)
    mask[2:28, 2:28] = True
    mask[6:24, 6:24] = False
    mask[9:21, 9:21] = True  # an island
    mask[13:17, 13:17] = False  # with a hole of its own
    areas = sorted(abs(signed_area(ring)) for ring in contours_of(mask))
    assert areas == pytest.approx([12 * 12 - 4 * 4, 26 * 26 - 18 * 18])


@pytest.mark.parametrize("seed", range(1, 20, 2))
def test_another_program_fills_the_same_pixels(seed: int) -> None:
    mask = random_mask(seed)
    np.testing.assert_array_equal(filled_by_matplotlib(contours_of(mask), mask.shape), mask)


def test_empty_mask_has_no_contours_and_a_full_one_reaches_half_a_pixel_out() -> None:
    assert contours_of(np.zeros((4, 5), bool)) == []
    (ring,) = contours_of(np.ones((4, 5), bool))
    assert ring.min(axis=0).tolist() == [-0.5, -0.5]
    assert ring.max(axis=0).tolist() == [4.5, 3.5]


def test_ring_that_repeats_its_first_point_is_opened() -> None:
    square = [[0, 0], [2, 0], [2, 2], [0, 2]]
    np.testing.assert_array_equal(ring_at([*square, [0, 0]]), square)
    np.testing.assert_array_equal(ring_at(square), square)
