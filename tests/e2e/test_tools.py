"""The tools of OHIF on our label, voxel by voxel: threshold brush, fill, interpolation, undo and redo, the keyboard."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_ohif import TOOLS, Reader, assert_same, planes_of
from helpers_pacs import ORGANS
from playwright.sync_api import expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LIVER = ORGANS["liver"]
Voxels = dict[str, np.ndarray]
CORNERS = """points => {
  const { viewport } = cornerstone.getEnabledElements()[0];
  const { imageData } = viewport.getImageData();
  return points.map(([x, y]) => {
    const { clientWidth, clientHeight } = viewport.canvas;
    return [...imageData.worldToIndex(viewport.canvasToWorld([x * clientWidth, y * clientHeight]))];
  });
}"""


@pytest.fixture(scope="module")
def person(clinic, regular: Reader) -> Reader:
    """Somebody at the series of odd size."""
    regular.open(clinic.study(TOOLS))
    return regular


@pytest.fixture
def automatic(person: Reader) -> Voxels:
    """The series segmented just now, its first slice in view, and the brush ready for the liver."""
    person.segment()
    person.page.evaluate("() => cornerstone.getEnabledElements()[0].viewport.setImageIdIndex(0)")
    person.drawn()
    person.page.locator("[data-organ=liver] .name").click()
    return person.voxels()


def changed(before: Voxels, after: Voxels) -> list[str]:
    """Return the slices that differ."""
    return [uid for uid in before if not np.array_equal(before[uid], after[uid])]


def assert_equal(one: Voxels, other: Voxels) -> None:
    assert list(one) == list(other)
    assert changed(one, other) == []


def assert_stored(clinic, person: Reader) -> None:
    """Store, and compare what the PACS got with what the viewer holds."""
    person.store()
    expect(person.part("badge")).to_contain_text("Stored by Roe^Jane")
    assert_same(planes_of(clinic.segmentation(TOOLS)), person.voxels())


def fill(person: Reader, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Fill a rectangle between two places, in fractions of the viewport."""
    person.page.click("[data-cy=Shapes-btn]")
    person.page.get_by_text("Rectangle", exact=True).click()
    person.drag(start, end)


def test_threshold_brush_paints_the_grey_values_of_its_range(clinic, person: Reader, automatic):
    """The range is that of the series from the beginning; the brush here is larger than the image."""
    grey = clinic.grey_values(TOOLS)
    lowest, highest = (edge(list(grey.values())) for edge in (np.min, np.max))
    person.press(*["ArrowDown"] * 5)
    uid = person.slice()
    person.page.wait_for_function(
        "high => window.services.toolbarService.getButtonProps('Threshold').options.some(o => o.max === high)",
        arg=float(highest),
    )
    person.page.locator("[data-organ=spleen] .name").click()
    person.page.click("[data-cy=Threshold-btn]")
    person.page.get_by_text("Range", exact=True).click()
    person.stroke("Threshold", (0.5, 0.5), (0.5, 0.5), radius=60)
    expect(person.part("badge")).to_contain_text("Changed, not stored")  # this brush works beside the page
    painted = person.voxels()
    inside = (grey[uid] >= (lowest + highest) / 2) & (grey[uid] <= highest)
    assert 0 < np.count_nonzero(inside) < inside.size
    np.testing.assert_array_equal(painted[uid], np.where(inside, ORGANS["spleen"], automatic[uid]))
    assert changed(automatic, painted) == [uid]
    assert_stored(clinic, person)


def test_shape_is_filled(person: Reader, automatic):
    start, end = (0.35, 0.4), (0.55, 0.6)
    fill(person, start, end)
    filled = person.voxels()
    (uid,) = changed(automatic, filled)
    rows, columns = np.nonzero(filled[uid] == LIVER)
    first, last = person.page.evaluate(CORNERS, [start, end])
    edges = [columns.min(), columns.max(), rows.min(), rows.max()]
    assert edges == pytest.approx([first[0], last[0], first[1], last[1]], abs=1)
    assert len(rows) == (edges[1] - edges[0] + 1) * (edges[3] - edges[2] + 1) > 20


def test_slices_between_are_interpolated_and_that_can_be_undone(clinic, person: Reader, automatic):
    start, end = (0.4, 0.4), (0.6, 0.6)
    person.page.fill("[data-cy=ml-add]", "lesion")
    person.part("add-button").click()
    lesion = len(ORGANS) + 1
    fill(person, start, end)
    uids = [person.slice()]
    for _ in range(4):
        person.press("ArrowDown")
        uids.append(person.slice())
    assert len(set(uids)) == 5  # one slice further by every key
    fill(person, start, end)
    drawn = person.voxels()
    assert [uid for uid in uids if (drawn[uid] == lesion).any()] == [uids[0], uids[4]]

    person.page.click("[data-cy=InterpolateLabelmap-btn]")
    row = person.page.locator("[data-organ=lesion]")
    volume = row.inner_text()
    expect(row).not_to_have_text(volume, timeout=60_000)
    person.page.wait_for_timeout(500)
    interpolated = person.voxels()
    assert set(changed(drawn, interpolated)) == set(uids[1:4])
    for uid in uids[1:4]:
        np.testing.assert_array_equal(interpolated[uid] == lesion, drawn[uids[0]] == lesion)
    person.press("Control+z")
    assert_equal(person.voxels(), drawn)
    person.press("Control+y")
    assert_equal(person.voxels(), interpolated)
    assert_stored(clinic, person)


def test_every_step_is_undone_and_done_again(clinic, person: Reader, automatic):
    steps = [automatic]
    person.stroke("Brush", (0.42, 0.4), (0.58, 0.45))
    steps.append(person.voxels())
    person.stroke("Eraser", (0.5, 0.35), (0.5, 0.55), radius=3)
    steps.append(person.voxels())
    fill(person, (0.6, 0.6), (0.7, 0.7))
    steps.append(person.voxels())
    person.page.locator("[data-organ=spleen] button[title='delete spleen']").click()
    expect(person.part("organ")).to_have_count(len(ORGANS) - 1)
    person.page.wait_for_timeout(600)
    steps.append(person.voxels())
    person.segment()
    expect(person.part("organ")).to_have_count(len(ORGANS))
    steps.append(person.voxels())
    assert all(changed(one, other) for one, other in zip(steps, steps[1:], strict=False))
    assert_equal(steps[-1], automatic)
    for step in reversed(steps[:-1]):
        person.press("Control+z")
        assert_equal(person.voxels(), step)
    expect(person.part("organ")).to_have_count(len(ORGANS))
    for step in steps[1:]:
        person.press("Control+y")
        assert_equal(person.voxels(), step)
    person.press("Control+z", "Control+z", "Control+z")
    assert_equal(person.voxels(), steps[2])
    assert_stored(clinic, person)


def test_slices_are_segmented_again_and_the_others_stay(clinic, person: Reader, automatic):
    uids = []
    for _ in range(5):
        uids.append(person.slice())
        fill(person, (0.4, 0.4), (0.6, 0.6))
        person.press("ArrowDown")
    drawn = person.voxels()
    assert set(changed(automatic, drawn)) == set(uids)
    person.page.select_option("[data-cy=ml-scope]", "range")
    person.page.fill("[data-cy=ml-first]", "2")
    person.page.fill("[data-cy=ml-last]", "4")
    person.segment("range")
    after = person.voxels()
    assert set(changed(drawn, after)) == set(uids[1:4])
    assert set(changed(automatic, after)) == {uids[0], uids[4]}
    person.press("ArrowUp")
    person.segment("slice")
    one = person.voxels()
    assert changed(after, one) == [uids[4]]
    asked = {"slices": [{"uid": uids[4], "frame": 1}]}
    answer = clinic.ask("POST", f"/viewer/images/{clinic.series(TOOLS)}/segment", json=asked).json()
    runs = answer["slices"][0]["runs"]
    np.testing.assert_array_equal(one[uids[4]].ravel(), np.repeat(runs[1::2], runs[0::2]))
    person.press("Control+z")
    assert_equal(person.voxels(), after)
    person.press("Control+z")
    assert_equal(person.voxels(), drawn)
    person.press("Control+y")
    assert_equal(person.voxels(), after)
    assert_stored(clinic, person)
