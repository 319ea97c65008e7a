from __future__ import annotations

import pytest
from helpers_pacs import write_seeing_model


@pytest.fixture(scope="session")
def seeing_models(tmp_path_factory):
    """A folder with one model that sees the painted organs."""
    folder = tmp_path_factory.mktemp("seeing")
    write_seeing_model(folder / "seeing")
    return folder
