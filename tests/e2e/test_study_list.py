"""OHIF's list of studies, which the PACS filters and which has pages."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from helpers_dicom import COMPLETE, write_series
from helpers_imaging import affine_of
from helpers_ohif import need_ohif, reader
from helpers_pacs import need_orthanc
from helpers_server import serve
from playwright.sync_api import Locator, Page, expect

from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.orthanc import orthanc

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STUDIES, PAGE = 120, 50  # OHIF asks for 101 unless it is told otherwise
SLOW = 30_000  # milliseconds
COLUMNS = {"PatientName": 0, "PatientID": 1}  # of the list, from the left


@pytest.fixture(scope="module")
def page(tmp_path_factory, seeing_models):
    """The list of an archive with more studies than OHIF asks for by itself."""
    need_orthanc()
    need_ohif()
    folder = tmp_path_factory.mktemp("list")
    with orthanc(folder / "orthanc") as connection:
        files = []
        for number in range(STUDIES):
            tags = {**COMPLETE, "PatientID": f"P{number:03d}", "PatientName": f"DOE^{number:03d}"}
            files += write_series(folder / str(number), np.ones((8, 8, 1)), affine_of("LPS", (2.0, 2.0, 3.0)), **tags)
        PacsClient(connection).store([pydicom.dcmread(file) for file in files])
        place = {"data_dir": folder / "data", **connection.as_environment()}
        with serve(connection.url, seeing_models, **place) as server, reader(server) as person:
            person.open_list()
            yield person.page


def rows(page: Page) -> Locator:
    """Return the names of the patients."""
    return page.locator("text=/^DOE, [0-9]+$/")


def test_pages_hold_every_study_once(page: Page):
    found = []
    for number, count in enumerate((PAGE, PAGE, STUDIES - 2 * PAGE)):
        expect(page.get_by_label("Rows per page")).to_contain_text(
            f"{number * PAGE + 1}-{number * PAGE + count} of {STUDIES}", timeout=SLOW
        )
        expect(rows(page)).to_have_count(count)
        found += rows(page).all_inner_texts()
        following = page.get_by_label("Next page")
        if number < 2:
            following.click()
    expect(following).to_be_disabled()
    assert sorted(found) == [f"DOE, {number:03d}" for number in range(STUDIES)]
    page.get_by_label("Previous page").click()
    expect(rows(page)).to_have_count(PAGE)


def test_studies_are_told_apart_by_their_descriptions(page: Page):
    expect(page.get_by_text(COMPLETE["StudyDescription"], exact=True)).to_have_count(PAGE, timeout=SLOW)
    expect(page.get_by_text("No Description")).to_have_count(0)


def test_what_it_is_not_for_is_said_at_once_and_buttons_are_read_in_full(page: Page):
    expect(page.get_by_text("For research. Not for clinical use.")).to_be_visible()
    rows(page).first.click()
    button = page.get_by_text("Segment", exact=True)
    assert button.evaluate("node => node.scrollWidth <= node.clientWidth"), "cut off"


@pytest.mark.parametrize(("attribute", "value", "found"), [("PatientName", "07", 12), ("PatientID", "P119", 1)])
def test_filters_are_the_archives(page: Page, attribute: str, value: str, found: int):
    """ "07" is in 007, 070 to 079, and 107."""
    box = page.locator("input").nth(COLUMNS[attribute])
    with page.expect_request(lambda asked: "/qido/studies?" in asked.url and f"=*{value}*" in asked.url):
        box.fill(value)
    expect(rows(page)).to_have_count(found, timeout=SLOW)
    box.fill("")
    expect(rows(page)).to_have_count(PAGE, timeout=SLOW)
