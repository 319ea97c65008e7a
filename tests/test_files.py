"""Files appear whole or not at all."""

from __future__ import annotations

import os

import pytest
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder, replace_file


def test_file_is_replaced_and_keeps_its_suffixes(tmp_path):
    path = tmp_path / "new" / "case.nii.gz"
    with replace_file(path) as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["case.nii.gz"]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "model.pt"
    path.write_text("old")

    def write_half():
        with replace_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("full disk")

    with pytest.raises(RuntimeError, match="full disk"):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.pt"]


def test_mode_is_that_of_an_ordinary_file(tmp_path):
    with replace_file(tmp_path / "a") as temporary:
        temporary.write_text("x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(InputError, match="taken.* cannot be written to"):
        make_writable_folder(tmp_path / "taken")
