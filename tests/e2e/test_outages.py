"""A radiologist stores while the server or the PACS is away: that is said, and nothing is lost."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import numpy as np
import pydicom
import pytest
from helpers_ohif import Reader, assert_same, planes_of, reader
from helpers_pacs import need_orthanc, send, write_stack
from helpers_server import Server, free_port, serve
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
        """Return the segmentation of the study that the archive got last."""
        ((series, _),) = self.client.series({"Modality": "SEG"}, self.study).items()
        last = max(self.client.headers(self.study, series), key=lambda header: int(header.InstanceNumber))
        return self.client.instance(self.study, series, str(last.SOPInstanceUID))


@contextlib.contextmanager
def reader_of(hospital: Hospital) -> Iterator[tuple[Reader, Server]]:
    """Start the server, and a page in front of it."""
    with hospital.server() as server, reader(server) as person:
        yield person, server


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


def test_server_that_dies_and_pacs_that_is_away_are_told_and_nothing_is_lost(hospital):
    with contextlib.ExitStack() as archive, reader_of(hospital) as (person, server):
        archive.enter_context(hospital.pacs())
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
            assert_same(painted, person.voxels())

            person.stroke("Brush", (0.42, 0.6), (0.58, 0.65))
            more = person.voxels()
            archive.close()
            person.store()
            expect(person.part("warn")).to_contain_text("The PACS has not taken it yet")
            expect(person.part("badge")).to_contain_text("the PACS does not have it yet")
            archive.enter_context(hospital.pacs())
            expect(person.part("done")).to_contain_text("in the PACS as DICOM SEG", timeout=PATIENCE)
            expect(person.part("badge")).not_to_contain_text("does not have it")
            assert_same(planes_of(hospital.segmentation()), more)
