"""What the end-to-end tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from filelock import FileLock
from helpers_browser import profile
from helpers_ohif import SMALL, TOKEN, Clinic, Reader, need_ohif, reader
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
            found.server, found.connection = server, connection
            yield found


@pytest.fixture(scope="session")
def logged_in(clinic):
    """What the browser of somebody remembers who has logged in to the server of the clinic."""
    need_ohif()
    with profile(*SMALL) as context:
        with reader(clinic.server, context) as found:
            found.log_in(TOKEN)
        yield context


@contextmanager
def watched(clinic, context) -> Iterator[Reader]:
    """Open a page, and check at the end that nothing went wrong in it and nothing came from elsewhere."""
    with reader(clinic.server, context) as found:
        found.forget()
        yield found
        assert not found.errors
        assert not found.page.foreign, "the viewer works without the internet"


@pytest.fixture
def person(clinic, logged_in):
    """Somebody who has logged in to the server of the clinic, in a page of their own."""
    with watched(clinic, logged_in) as found:
        yield found


@pytest.fixture(scope="module")
def regular(clinic, logged_in):
    """The same, in one page for a whole module."""
    with watched(clinic, logged_in) as found:
        yield found
