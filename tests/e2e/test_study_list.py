"""OHIF's list of studies, which the PACS filters and which has pages."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_dicom import COMPLETE, write_series
from helpers_imaging import affine_of
from helpers_ohif import need_ohif, reader
from helpers_pacs import need_orthanc, send
from helpers_server import serve
from playwright.sync_api import Page, expect

from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.orthanc import orthanc

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STUDIES, PAGE = 30, 25
INPUTS = ("PatientName", "PatientID")  # of the list's first row, from the left


@pytest.fixture(scope="module")
def page(tmp_path_factory, seeing_models):
    """The list of an archive with more studies than a page has."""
    need_orthanc()
    need_ohif()
    folder = tmp_path_factory.mktemp("list")
    with orthanc(folder / "orthanc") as connection:
        for number in range(STUDIES):
            tags = {
                "PatientID": f"P{number:02d}",
                "PatientName": f"DOE^{number:02d}",
                "StudyDate": f"202401{number + 1:02d}",
            }
            image = np.full((16, 16, 3), float(number))
            files = write_series(folder / str(number), image, affine_of("LPS", (2.0, 2.0, 3.0)), **{**COMPLETE, **tags})
            send(PacsClient(connection), files)
        place = {"data_dir": folder / "data", **connection.as_environment()}
        with serve(connection.url, seeing_models, **place) as server, reader(server) as person:
            person.page.goto(f"{server.url}/ohif/")
            yield person.page


def names(page: Page) -> list[str]:
    return page.locator("text=/^DOE, [0-9]+$/").all_inner_texts()


def test_pages_hold_every_study_once(page: Page):
    rows = page.locator("text=/^DOE, [0-9]+$/")
    expect(rows).to_have_count(PAGE)
    first = names(page)
    page.get_by_role("button", name="Next >").click()
    expect(rows).to_have_count(STUDIES - PAGE)
    found = first + names(page)
    assert sorted(found) == [f"DOE, {number:02d}" for number in range(STUDIES)]
    page.get_by_role("button", name="< Back").click()
    expect(rows).to_have_count(PAGE)


@pytest.mark.parametrize(("column", "value", "found"), [(0, "DOE^07", "DOE, 07"), (1, "P29", "DOE, 29")])
def test_filters_are_the_archives(page: Page, column: int, value: str, found: str):
    page.asked.clear()
    page.locator("input").nth(column).fill(value)
    expect(page.locator("text=/^DOE, [0-9]+$/")).to_have_text([found])
    asked = [url for status, url in page.asked if status == 200 and "/qido/studies?" in url]
    assert any(f"{INPUTS[column]}=" in url and value.replace("^", "%5E") in url for url in asked), asked
    page.locator("input").nth(column).fill("")
    expect(page.locator("text=/^DOE, [0-9]+$/")).to_have_count(PAGE)
