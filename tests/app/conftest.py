"""What the tests of the app share."""

from __future__ import annotations

import pytest
from helpers_bundle import write_model
from helpers_server import serve, write_studies


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with one untrained model of two organs, and one of photographs, which the app does not serve."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "tiny")
    write_model(folder / "cells", name="cells", modality="GM")
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory, models):
    """A server that tests read from; tests that change things start their own."""
    with serve(write_studies(tmp_path_factory.mktemp("shared") / "studies", 3), models) as running:
        yield running
