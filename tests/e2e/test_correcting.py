"""OHIF in a browser, the server and a PACS: see organs, correct them, store, and find them again, voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_ohif import ODD, SPARE, STACKS, STUDIES, Reader, assert_same, count, planes_of
from helpers_pacs import ORGANS
from playwright.sync_api import expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DESCRIPTION = "seeing: for research, not for clinical use"  # of a DICOM SEG of ours
LOADED = "label => cornerstoneTools.segmentation.state.getSegmentations().some(found => found.label === label)"
DRAWN_IN = """viewports => {
  const [{ segmentationId }] = cornerstoneTools.segmentation.state.getSegmentations();
  const found = window.services.segmentationService.getViewportIdsWithSegmentation(segmentationId);
  return found.length === viewports && document.querySelectorAll('.cornerstone-canvas').length === viewports;
}"""
DELETE = """segmentIndex => {  // as the menu of OHIF's own list of segments does
  const [{ segmentationId }] = cornerstoneTools.segmentation.state.getSegmentations();
  commandsManager.run('deleteSegment', { segmentationId, segmentIndex });
}"""
LISTED = """uid => {
  const sets = window.services.displaySetService.getActiveDisplaySets();
  const stored = sets.filter(set => set.Modality === 'SEG' && set.SOPInstanceUID);
  return stored.length === 1 && stored[0].SOPInstanceUID === uid;
}"""


@pytest.mark.parametrize("stack", STACKS)
def test_organs_are_seen_corrected_stored_and_seen_again(clinic, person: Reader, stack):
    person.open(clinic.study(stack))
    expect(person.part("badge")).to_contain_text("No label yet")
    person.page.fill("[data-cy=ml-add]", "lesion")
    person.part("add-button").click()  # who draws without a model
    expect(person.part("organ")).to_have_count(1)
    person.stroke("Brush", (0.42, 0.4), (0.58, 0.45))
    assert count(person.voxels(), 1) > 0
    expect(person.part("badge")).to_contain_text("Changed, not stored")
    person.segment()
    expect(person.part("badge")).to_contain_text("Automatic, not reviewed")
    expect(person.part("badge")).to_contain_text("seeing 0.1.0")
    expect(person.part("organ")).to_have_count(len(ORGANS))
    found = person.voxels()
    server = clinic.ask("GET", f"/viewer/images/{clinic.series(stack)}/label").json()
    for entry in server["slices"]:
        flat = np.repeat(entry["runs"][1::2], entry["runs"][0::2])
        np.testing.assert_array_equal(flat, found[entry["uid"]].ravel())
    assert count(found, ORGANS["spleen"]) > 0

    person.stroke("Brush", (0.42, 0.4), (0.58, 0.45))
    painted = person.voxels()
    assert count(painted, ORGANS["liver"]) > count(found, ORGANS["liver"]), person.painting()
    expect(person.part("badge")).to_contain_text("Changed, not stored")
    person.stroke("Eraser", (0.5, 0.35), (0.5, 0.55), radius=3)
    erased = person.voxels()
    assert count(erased, ORGANS["liver"]) < count(painted, ORGANS["liver"]), person.painting()

    person.store()
    expect(person.part("done")).to_contain_text("in the PACS as DICOM SEG")
    expect(person.part("badge")).to_contain_text("Stored by Roe^Jane")
    stored = clinic.segmentation(stack)
    assert str(stored.ContentCreatorName) == "Roe^Jane"
    assert [str(item.SegmentLabel) for item in stored.SegmentSequence] == list(ORGANS)
    assert_same(planes_of(stored), erased)

    person.page.reload()
    person.settled()
    expect(person.part("badge")).to_contain_text("Stored by Roe^Jane")
    again = person.voxels()
    for uid, pixels in erased.items():
        np.testing.assert_array_equal(again[uid], pixels)
    check_other_viewers(clinic, person, stack, erased)


def check_other_viewers(clinic, person: Reader, stack: str, stored: dict[str, np.ndarray]) -> None:
    """Open the DICOM SEG as any OHIF does: from the list of series, in the mode that has nothing of ours."""
    person.page.goto(f"{person.server.url}/ohif/viewer?StudyInstanceUIDs={clinic.study(stack)}")
    series = person.page.locator("[data-cy=study-browser-thumbnail-no-image]", has_text="SEG")
    expect(series).to_have_count(1)
    person.page.locator(".shepherd-element").wait_for()  # OHIF's tour of its tools
    person.page.get_by_role("button", name="Skip all").click()
    series.dblclick()
    person.page.get_by_role("button", name="Yes").click()
    person.page.wait_for_function(LOADED, arg=DESCRIPTION)
    assert person.page.evaluate("cornerstoneTools.segmentation.state.getSegmentations().length") == 1
    for uid, pixels in person.voxels(DESCRIPTION).items():
        np.testing.assert_array_equal(pixels, stored[uid])


def test_nothing_is_lost_when_storing_fails_or_the_page_is_left(clinic, person: Reader):
    """Nor is what another person has stored in the meantime."""
    image = clinic.series("oblique")
    person.open(clinic.study("oblique"))
    person.segment()
    person.stroke("Brush", (0.42, 0.4), (0.58, 0.45))
    painted = person.voxels()
    person.page.route("**/viewer/images/*/label", lambda route: route.abort())
    person.store("Doe^John")
    expect(person.part("error")).to_contain_text("Not stored: The server does not answer.")
    with person.page.expect_download() as download:
        person.part("action-save").click()
    assert image in download.value.suggested_filename
    person.page.unroute("**/viewer/images/*/label")

    person.page.reload()
    person.settled()
    person.part("restore").click()
    expect(person.part("badge")).to_contain_text("Changed, not stored")
    for uid, pixels in person.voxels().items():
        np.testing.assert_array_equal(pixels, painted[uid])
    clinic.store_automatic("oblique", "Other^Anna")
    person.store("Doe^John")
    expect(person.part("error")).to_contain_text("Other^Anna has stored a label")
    person.part("action-replace").click()
    expect(person.part("badge")).to_contain_text("Stored by Doe^John")
    assert_same(planes_of(clinic.segmentation("oblique")), painted)


def test_who_is_logged_out_logs_in_and_stores(clinic, person: Reader):
    person.open(clinic.study(ODD))
    person.segment()
    person.stroke("Brush", (0.42, 0.4), (0.58, 0.45))
    person.page.context.clear_cookies()
    person.store()
    expect(person.part("error")).to_contain_text("Not stored: You are not logged in any more.")
    with person.page.expect_popup() as login:
        person.part("error").locator("[data-cy=ml-action-login]").click()
    Reader(login.value, person.server).give_token()
    login.value.close()
    person.part("action-again").click()
    expect(person.part("badge")).to_contain_text("Stored by Roe^Jane")
    assert_same(planes_of(clinic.segmentation(ODD)), person.voxels())


def test_organs_are_added_and_deleted_and_painted_in_other_planes(clinic, person: Reader):
    person.open(clinic.study(ODD))
    person.segment()
    person.page.fill("[data-cy=ml-add]", "lesion")
    person.part("add-button").click()
    expect(person.part("organ")).to_have_count(len(ORGANS) + 1)
    person.page.locator("[data-organ=spleen] button[title='delete spleen']").click()
    expect(person.part("organ")).to_have_count(len(ORGANS))
    person.page.evaluate(DELETE, ORGANS["pancreas"])
    expect(person.part("organ")).to_have_count(len(ORGANS) - 1)
    before = person.voxels()
    assert [count(before, ORGANS[organ]) for organ in ("spleen", "pancreas")] == [0, 0]
    person.page.evaluate("commandsManager.run('toggleHangingProtocol', {protocolId: 'mpr'})")
    person.page.wait_for_function(DRAWN_IN, arg=3)
    person.page.wait_for_timeout(2000)
    for _ in range(2):  # the first click makes a viewport the active one
        person.stroke("Brush", (0.45, 0.49), (0.55, 0.51), radius=6, viewport=1)
    painted = person.voxels()
    assert sum(not np.array_equal(painted[uid], before[uid]) for uid in before) > 1
    assert count(painted, len(ORGANS) + 1) > 0
    person.store()
    expect(person.part("badge")).to_contain_text("Stored by Roe^Jane")
    stored = clinic.segmentation(ODD)
    names = {str(item.SegmentLabel): int(item.SegmentNumber) for item in stored.SegmentSequence}
    assert names == {**ORGANS, "lesion": len(ORGANS) + 1}
    planes = planes_of(stored)
    assert count(planes, names["spleen"]) == 0
    assert count(planes, names["lesion"]) > 0
    assert_same(planes, painted)
    person.page.wait_for_function(LISTED, arg=str(stored.SOPInstanceUID))  # OHIF's own list of series has this one


def test_study_list_is_filtered_and_leads_to_the_next_study(clinic, person: Reader):
    person.open_list()
    rows = person.page.locator("text=/DOE, [0-9]/")
    expect(rows).to_have_count(STUDIES)
    person.page.locator("input").nth(1).fill("P1")
    expect(rows).to_have_count(1)
    person.open(clinic.study(SPARE))
    person.page.fill("[data-cy=ml-name]", "Next^Nora")
    person.page.keyboard.press("Tab")
    person.part("next").click()
    person.page.wait_for_url("**initialSeriesInstanceUID=**")
    person.settled()
    image = person.page.url.rpartition("=")[2]
    assert clinic.ask("GET", f"/viewer/images/{image}").json()["with"] == "Next^Nora"


def test_training_is_started_followed_and_stopped(clinic, person: Reader):
    clinic.store_automatic(ODD, "Other^Anna")
    person.open(clinic.study(ODD))
    expect(person.part("badge")).to_contain_text("Stored by Other^Anna")
    expect(person.part("badge")).to_contain_text("seeing 0.1.0")
    person.part("train").click()
    training = person.page.locator(".ml section", has_text="Training")
    expect(training.locator("progress")).to_be_visible(timeout=60_000)
    expect(training).to_contain_text("epoch")
    training.get_by_role("button", name="Stop").click()
    expect(person.part("train")).to_be_visible(timeout=60_000)
