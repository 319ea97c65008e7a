"""What the panel in OHIF tells a radiologist, and what can be done there beside drawing."""

from __future__ import annotations

import json

import pytest
from helpers_ohif import PANEL, SPARE, Reader
from helpers_pacs import ORGANS
from playwright.sync_api import expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LOW = "low confidence, look closely: spleen 0.63 (doubtful below 0.93)"
VOXELS = "voxels of 9 mm from left to right: the model was trained on 1.25 mm"
COLOURS = """() => {
  const [{ segmentationId, segments }] = cornerstoneTools.segmentation.state.getSegmentations();
  const { viewportId } = cornerstone.getEnabledElements()[0];
  const colour = (id) => window.services.segmentationService.getSegmentColor(viewportId, segmentationId, Number(id));
  return Object.fromEntries(Object.values(segments).map((s) => [s.label, colour(s.segmentIndex).slice(0, 3)]));
}"""
LETTERS = """() => [...document.querySelectorAll('.orientation-marker')].map(
  (node) => parseFloat(getComputedStyle(node).fontSize)
)"""


@pytest.fixture(scope="module")
def person(clinic, regular: Reader) -> Reader:
    """Somebody at the series for the panel."""
    regular.open(clinic.study(PANEL))
    return regular


def color_of(locator) -> str:
    return locator.evaluate("node => getComputedStyle(node).color")


def doubtful(route) -> None:
    """Answer as the server does, with doubts."""
    answer = route.fetch()
    doubts = {"warnings": [VOXELS, LOW], "confidence": {organ: 0.97 for organ in ORGANS} | {"spleen": 0.63}}
    route.fulfill(response=answer, body=json.dumps({**answer.json(), **doubts}))


def test_whose_image_it_is_and_what_for_is_said(person: Reader, clinic):
    header = clinic.headers[PANEL]
    expect(person.part("patient")).to_contain_text(str(header.PatientName).replace("^", " "))
    expect(person.part("patient")).to_contain_text(str(header.PatientID))
    expect(person.part("note")).to_contain_text("not for clinical use")
    expect(person.page.get_by_text("For research. Not for clinical use.")).to_be_visible()
    expect(person.part("licence")).to_contain_text("Licence of the model:")
    sizes = person.page.evaluate(LETTERS)
    assert len(sizes) == 2
    assert min(sizes) >= 18, "the letters of the patient's sides are small"


def test_why_nothing_can_be_stored_is_said(person: Reader):
    person.page.fill("[data-cy=ml-name]", "")
    person.page.keyboard.press("Tab")
    expect(person.part("store")).to_be_disabled()
    expect(person.part("hint")).to_contain_text("who you are")
    person.page.fill("[data-cy=ml-name]", "Roe^Jane")
    person.page.keyboard.press("Tab")
    expect(person.part("hint")).to_be_empty()


def test_every_control_has_a_name(person: Reader):
    nameless = """() => [...document.querySelectorAll('.ml button, .ml input:not([hidden]), .ml select')].filter(
      (node) => !(node.textContent.trim() && node.tagName === 'BUTTON') && !node.ariaLabel && !node.labels?.length
    ).map((node) => node.outerHTML)"""
    person.segment()
    assert person.page.evaluate(nameless) == []


def test_doubts_are_no_part_of_success_and_stand_by_their_organs(person: Reader):
    person.page.route("**/segment?*", doubtful)
    person.segment()
    person.page.unroute("**/segment?*")
    done, check = person.part("done"), person.part("check")
    expect(done).to_contain_text("Segmented.")
    expect(done).not_to_contain_text("voxels")
    expect(check).to_contain_text("Check")
    expect(check).to_contain_text(VOXELS)
    assert color_of(done) != color_of(check)
    rows = person.page.locator("[data-cy=ml-organ]")
    expect(rows.locator("[data-cy=ml-look]")).to_have_count(1)
    spleen = person.page.locator("[data-organ=spleen]")
    expect(spleen.locator("[data-cy=ml-look]")).to_contain_text("Check: low confidence")
    expect(spleen.locator("[data-cy=ml-confidence]")).to_have_text("0.63")
    person.page.locator("[data-organ=liver] .name").click()
    person.stroke("Brush", (0.42, 0.4), (0.58, 0.45))
    expect(person.page.locator("[data-organ=liver] [data-cy=ml-confidence]")).to_be_empty()  # it is the person's now
    expect(spleen.locator("[data-cy=ml-confidence]")).to_have_text("0.63")


def test_a_result_waits_for_the_stroke_that_is_being_drawn(person: Reader):
    person.segment()
    person.page.locator("[data-organ=liver] .name").click()
    person.page.click("[data-cy=Brush-btn]")
    box = person.page.locator(".cornerstone-canvas").first.bounding_box()
    assert box is not None
    person.page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    person.page.mouse.down()
    with person.page.expect_response("**/segment?*") as response:
        person.page.locator("[data-cy=ml-segment]").focus()
        person.page.keyboard.press("Enter")
    assert response.value.ok
    person.page.wait_for_timeout(1500)
    expect(person.part("busy")).to_be_visible()
    person.page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"], steps=4)
    person.page.mouse.up()
    expect(person.part("warn")).to_contain_text("What was drawn meanwhile is replaced: Ctrl+Z brings it back.")
    automatic = person.voxels()
    person.page.keyboard.press("Control+z")
    person.drawn()
    assert any((person.voxels()[uid] != pixels).any() for uid, pixels in automatic.items())
    person.segment()


def test_organs_have_their_own_colours_and_the_painted_one_is_marked(person: Reader, clinic):
    (model,) = clinic.ask("GET", "/viewer/").json()["models"]
    wanted = {entry["name"]: entry["color"] for entry in model["segments"]}
    person.segment()
    assert person.page.evaluate(COLOURS) == wanted
    person.page.reload()
    person.settled()
    person.page.wait_for_timeout(1000)
    assert person.page.evaluate(COLOURS) == wanted
    name = person.page.locator("[data-organ=spleen] .name")
    name.focus()
    person.page.keyboard.press("Enter")
    expect(name).to_have_attribute("aria-pressed", "true")
    expect(person.page.locator(".ml [aria-pressed=true]")).to_have_count(1)
    expect(name).to_be_focused()  # though the list was drawn anew


def test_a_segmentation_is_stopped(person: Reader):
    person.part("badge").wait_for()
    before = person.voxels()
    asked = []
    person.page.route("**/segment?*", lambda route: asked.append(route))  # no answer
    person.page.select_option("[data-cy=ml-scope]", "all")
    person.part("segment").click()
    expect(person.part("busy")).to_contain_text("Segmenting… 2 s")
    expect(person.part("segment")).to_be_disabled()
    with person.page.expect_request("**/viewer/runs/*") as stop:
        person.part("stop").click()
    assert stop.value.method == "DELETE"
    assert stop.value.url.endswith(asked[0].request.post_data_json["run"])
    expect(person.part("done")).to_contain_text("Stopped. Nothing was changed.")
    expect(person.part("segment")).to_be_enabled()
    person.page.unroute("**/segment?*")
    assert all((before[uid] == pixels).all() for uid, pixels in person.voxels().items())


def test_a_stored_label_is_approved(person: Reader, clinic):
    expect(person.part("review")).to_be_hidden()
    person.segment()
    person.store()
    expect(person.part("badge")).to_contain_text("Stored by Roe^Jane")
    person.part("review").click()
    expect(person.part("badge")).to_contain_text("approved by Roe^Jane")
    expect(person.part("review")).to_be_hidden()
    assert clinic.ask("GET", f"/viewer/images/{clinic.series(PANEL)}").json()["state"] == "reviewed"


def test_a_study_is_skipped_for_good(person: Reader, clinic):
    person.open(clinic.study(SPARE))
    skipped = clinic.series(SPARE)
    with person.page.expect_request(f"**/worklist/{skipped}/skip"):
        person.part("skip").click()
    person.page.wait_for_url("**initialSeriesInstanceUID=**")
    person.settled()
    assert not person.page.url.endswith(skipped)
