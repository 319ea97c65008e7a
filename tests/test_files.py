"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from swin_umamba.errors import InputError
from swin_umamba.files import disk_error, make_writable_folder, replace_file, save_tensors


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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_full_disk_is_told_in_one_line(tmp_path, number):
    (tmp_path / "a.json").write_text("old")

    def fail() -> None:
        with replace_file(tmp_path / "a.json") as path:
            path.write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(InputError, match=f"a.json' cannot be written: {os.strerror(number)}; the file is as it was"):
        fail()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.json", "old")]


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), replace_file(tmp_path / "a.json"):
        (tmp_path / "missing").read_text()
    assert disk_error(None, "a") is None


def test_tensors_on_a_full_disk(tmp_path):
    save_tensors(tmp_path / "small.pt", {"a": torch.arange(3)})
    assert torch.load(tmp_path / "small.pt", weights_only=True)["a"].tolist() == [0, 1, 2]
    if Path("/dev/full").exists():
        with pytest.raises(OSError, match="No space left on device"):
            save_tensors("/dev/full", {"a": torch.zeros(100_000)})
