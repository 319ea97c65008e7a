"""Where runs are and who writes to them."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from swin_umamba.errors import InputError
from swin_umamba.runs.folders import choose_run_folder, is_running, lock_run, resume_of, runs_in, unlock_run


def begun(folder: Path, age: float = 0) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    os.utime(folder / "run.json", (time.time() - age,) * 2)
    return folder


def test_new_runs_never_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "20250102-030405")
    first = choose_run_folder(tmp_path, prefix="my model")
    assert first == str(tmp_path / "my_model_20250102-030405")
    assert not Path(first).exists()
    Path(first).mkdir()
    assert choose_run_folder(tmp_path, prefix="my model") == f"{first}-2"
    assert choose_run_folder(tmp_path, name="mine") == str(tmp_path / "mine")


def test_run_to_go_on_with(tmp_path):
    with pytest.raises(InputError, match="resume: there is no run in"):
        choose_run_folder(tmp_path, resume=True)
    newest, old = begun(tmp_path / "a", age=10), begun(tmp_path / "b", age=20)
    (tmp_path / "empty").mkdir()
    assert runs_in(tmp_path) == [old, newest]
    assert choose_run_folder(tmp_path, resume="True") == str(newest)
    assert choose_run_folder(tmp_path, resume=str(old)) == str(old)
    assert choose_run_folder(tmp_path, resume=True, name="b") == str(old)
    with pytest.raises(InputError, match="resume '.*empty' is no run's folder; legal: true, false, .*b, .*a"):
        choose_run_folder(tmp_path, resume=tmp_path / "empty")


@pytest.mark.parametrize(("given", "meant"), [(None, False), ("false", False), (True, True), ("TRUE", True)])
def test_switch(given, meant):
    assert resume_of(given) is meant


def wait(seconds: float) -> None:
    time.sleep(seconds)


def test_claim_is_not_kept_by_workers_that_outlive_the_training(tmp_path):
    assert not is_running(tmp_path)
    claim = lock_run(tmp_path)
    worker = multiprocessing.get_context("fork").Process(target=wait, args=(30,))
    worker.start()
    try:
        assert is_running(tmp_path)
        with pytest.raises(InputError, match="another training is writing to"):
            lock_run(tmp_path)
        time.sleep(0.2)  # until the worker has let go
        claim.close()  # as the end of the process does
        unlock_run(lock_run(tmp_path))
    finally:
        worker.kill()
        worker.join()
