"""What the end-to-end tests share."""

from __future__ import annotations

import os

import pytest
from filelock import FileLock
from helpers_ohif import TOKEN, Clinic, reader
from helpers_pacs import need_orthanc, write_seeing_model
from helpers_server import serve

from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.orthanc import orthanc


@pytest.fixture(scope="session")
def seeing_models(tmp_path_factory):
    """A folder with one model that sees the painted organs; the tests' processes share it, since it has to learn."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with FileLock(shared / "seeing.lock"):
        if not (shared / "seeing_models").is_dir():
            write_seeing_model(shared / "unfinished" / "seeing")
            (shared / "unfinished").rename(shared / "seeing_models")
    return shared / "seeing_models"


@pytest.fixture(scope="session")
def clinic(tmp_path_factory, seeing_models):
    """A server behind a token on an Orthanc of its own, with one study of each kind."""
    need_orthanc()
    folder = tmp_path_factory.mktemp("clinic")
    (folder / "token").write_text(TOKEN)
    with orthanc(folder / "orthanc") as connection:
        found = Clinic(folder, PacsClient(connection))
        more = {"data_dir": folder / "data", **connection.as_environment()}
        token = ("--token-file", str(folder / "token"))
        with serve(connection.url, seeing_models, *token, **more) as server:
            found.server = server
            yield found


@pytest.fixture
def person(clinic):
    """Somebody who has logged in to the server of the clinic."""
    with reader(clinic.server) as found:
        found.log_in(TOKEN)
        yield found
        assert not found.errors
        assert not found.page.foreign, "the viewer works without the internet"
