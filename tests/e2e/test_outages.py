"""A radiologist stores while the server or the PACS is away: that is said, and nothing is lost."""

from __future__ import annotations

import contextlib
import functools

import numpy as np
import pydicom
import pytest
from helpers_ohif import Reader, assert_same, planes_of, reader
from helpers_pacs import need_orthanc, send, write_stack
from helpers_server import free_port, serve
from playwright.sync_api import expect

from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.orthanc import orthanc

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PATIENCE = 120_000  # milliseconds


class Hospital:
    """An Orthanc with one study, and how to start it and the server again where they were."""

    def __init__(self, folder, models) -> None:
        self.pacs = functools.partial(orthanc, folder / "orthanc", free_port(), "a password")
        with self.pacs() as connection:
            self.client = PacsClient(connection)
            image = send(self.client, write_stack(folder / "dicom", "axial descending")[0])
            self.study = self.client.series({"Modality": "MR"})[image]["StudyInstanceUID"]
        place = {"data_dir": folder / "data", "port": free_port(), **connection.as_environment()}
        self.server = functools.partial(serve, connection.url, models, **place)

    def segmentation(self) -> pydicom.Dataset:
        """Return the only segmentation of the study."""
        ((series, _),) = self.client.series({"Modality": "SEG"}, self.study).items()
        (header,) = self.client.headers(self.study, series)
        return self.client.instance(self.study, series, str(header.SOPInstanceUID))


@pytest.fixture
def hospital(tmp_path, seeing_models):
    need_orthanc()
    return Hospital(tmp_path, seeing_models)


def correct(person: Reader, study: str) -> dict[str, np.ndarray]:
    """Segment and paint, and return what the viewer holds."""
    person.open(study)
    person.segment()
    person.stroke("Brush", (0.42, 0.4), (0.58, 0.45))
    expect(person.part("badge")).to_contain_text("Changed, not stored")
    return person.voxels()


def test_server_that_dies_is_told_and_the_next_attempt_stores(hospital):
    with hospital.pacs(), hospital.server() as server, reader(server) as person:
        painted = correct(person, hospital.study)
        server.process.kill()
        server.process.wait()
        person.store()
        expect(person.part("error")).to_contain_text("Not stored: The server does not answer.")
        expect(person.part("badge")).to_contain_text("Changed, not stored")
        with hospital.server():
            person.part("action-again").click()
            expect(person.part("badge")).to_contain_text("Stored by Roe^Jane", timeout=PATIENCE)
            assert_same(planes_of(hospital.segmentation()), painted)
        for uid, pixels in person.voxels().items():
            np.testing.assert_array_equal(pixels, painted[uid])


def test_pacs_that_is_away_gets_the_label_later_and_the_panel_says_so(hospital):
    with contextlib.ExitStack() as archive, hospital.server() as server, reader(server) as person:
        archive.enter_context(hospital.pacs())
        painted = correct(person, hospital.study)
        archive.close()
        person.store()
        expect(person.part("done")).to_contain_text("The PACS has not taken it yet")
        expect(person.part("badge")).to_contain_text("the PACS does not have it yet")
        with hospital.pacs():
            expect(person.part("done")).to_contain_text("in the PACS as DICOM SEG", timeout=PATIENCE)
            expect(person.part("badge")).not_to_contain_text("does not have it")
            assert_same(planes_of(hospital.segmentation()), painted)
