"""Two series in one study: each keeps its own organs, in the viewer, on the server and in the PACS."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_ohif import PAIR, Reader, assert_same, count, planes_of
from helpers_pacs import ORGANS
from playwright.sync_api import expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

AXIAL, CORONAL = PAIR
DRAWN = """() => {
  const { segmentationService, viewportGridService } = window.services;
  const { activeViewportId } = viewportGridService.getState();
  const drawn = segmentationService.getSegmentationRepresentations(activeViewportId, {});
  return drawn.filter(({ visible }) => visible).map(({ segmentationId }) => segmentationId);
}"""


PLACE = """series => {  // number of the canvas that shows a series; OHIF puts both side by side
  const { displaySetService, viewportGridService } = window.services;
  const shows = ([, { displaySetInstanceUIDs }]) => displaySetInstanceUIDs.some(
    uid => displaySetService.getDisplaySetByUID(uid).SeriesInstanceUID === series);
  const [id] = [...viewportGridService.getState().viewports].find(shows);
  const { canvas } = cornerstone.getEnabledElementByViewportId(id).viewport;
  return [...document.querySelectorAll('.cornerstone-canvas')].indexOf(canvas);
}"""


def choose(person: Reader, series: str) -> int:
    """Click into the view of a series, beside its image, and return the view's number."""
    number = person.page.evaluate(PLACE, series)
    box = person.page.locator(".cornerstone-canvas").nth(number).bounding_box()
    assert box is not None
    person.page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.05)
    person.page.wait_for_timeout(500)
    person.settled()
    person.drawn()
    return number


def assert_drawn_alone(clinic, person: Reader, stack: str) -> None:
    """Check that the viewport draws the organs of the series that it shows, and no others."""
    assert person.page.evaluate(DRAWN) == [f"monailabel-{clinic.series(stack)}"]


def test_each_series_keeps_its_own_organs(clinic, person: Reader):
    axial, coronal = (clinic.series(stack) for stack in PAIR)
    assert clinic.study(AXIAL) == clinic.study(CORONAL)
    person.open(clinic.study(AXIAL))
    place = choose(person, axial)
    person.segment()
    person.stroke("Brush", (0.42, 0.45), (0.58, 0.5), viewport=place)
    expect(person.part("badge")).to_contain_text("Changed, not stored")
    painted = person.voxels(axial)
    assert_drawn_alone(clinic, person, AXIAL)

    place = choose(person, coronal)
    expect(person.part("badge")).to_contain_text("No label yet")
    expect(person.part("organ")).to_have_count(0)
    assert person.page.evaluate(DRAWN) == []
    person.segment()
    automatic = person.voxels(coronal)
    assert_drawn_alone(clinic, person, CORONAL)
    assert not set(automatic) & set(painted)
    answer = clinic.ask("GET", f"/viewer/images/{coronal}/label").json()
    for entry in answer["slices"]:
        runs = entry["runs"]
        np.testing.assert_array_equal(automatic[entry["uid"]].ravel(), np.repeat(runs[1::2], runs[0::2]))
    person.page.locator("[data-organ=spleen] .name").click()
    person.stroke("Brush", (0.42, 0.45), (0.58, 0.5), viewport=place)
    corrected = person.voxels(coronal)
    assert count(corrected, ORGANS["spleen"]) > count(automatic, ORGANS["spleen"])
    person.store()
    expect(person.part("badge")).to_contain_text("Stored by Roe^Jane")
    assert_same(planes_of(clinic.segmentation(CORONAL)), corrected)
    assert clinic.ask("GET", f"/viewer/images/{axial}").json()["label"]["tag"] == "original"

    choose(person, axial)
    expect(person.part("badge")).to_contain_text("Changed, not stored")
    assert_drawn_alone(clinic, person, AXIAL)
    assert_same(painted, person.voxels(axial))
    person.store()
    expect(person.part("badge")).to_contain_text("Stored by Roe^Jane")
    assert_same(planes_of(clinic.segmentation(AXIAL)), painted)

    person.page.reload()
    person.settled()
    choose(person, coronal)
    assert_same(corrected, person.voxels(coronal))
    choose(person, axial)
    assert_same(painted, person.voxels(axial))
