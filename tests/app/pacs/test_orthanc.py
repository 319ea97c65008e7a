"""An Orthanc of one's own is started again when it dies, and has its folder for itself; with programs in its place."""

from __future__ import annotations

import os
import sys
import time

import pytest
from swin_umamba.errors import InputError

from monailabel_app.pacs import orthanc
from monailabel_app.pacs.orthanc import KeptRunning, _alone_in

SLEEPER = "import time; print('begun', flush=True); time.sleep(60)"


def begun(log, times):
    """Tell whether the program has begun so many times, soon."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if log.read_text().count("begun") >= times:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(orthanc, "FIRST_PAUSE", 0.05)
    log = tmp_path / "orthanc.log"
    log.write_text("of an earlier run")
    found = KeptRunning([sys.executable, "-c", SLEEPER], os.environ, log, [])
    found.start()
    yield found
    found.stop()


def test_what_dies_is_started_again_until_it_is_stopped(kept, caplog):
    kept.watch()
    for times in (1, 2):
        assert begun(kept.log, times)
        kept.process.kill()
    assert begun(kept.log, 3)  # what it said before stays
    assert kept.log.with_name("orthanc.log.1").read_text() == "of an earlier run"
    assert "Orthanc has ended (-9) and is started again in 0.05 s" in caplog.text
    kept.stop()
    assert kept.process.poll() is not None
    assert kept.log.read_text().count("begun") == 3


def test_a_program_that_is_not_there_any_more_is_tried_again(kept, caplog):
    command, kept.command = kept.command, ["/nonexistent/Orthanc"]
    kept.watch()
    kept.process.kill()
    end = time.monotonic() + 30
    while "cannot be started" not in caplog.text:
        assert time.monotonic() < end
        time.sleep(0.05)
    kept.command = command
    assert begun(kept.log, 2 if "begun" in kept.log.read_text() else 1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_a_folder_is_for_one_also_after_its_server(tmp_path, monkeypatch):
    """What has inherited the lock holds it as long as it runs."""
    monkeypatch.setattr(orthanc, "FREED", 0.3)
    with _alone_in(tmp_path) as held:
        heir = KeptRunning([sys.executable, "-c", SLEEPER], os.environ, tmp_path / "orthanc.log", held)
        heir.start()
        with pytest.raises(InputError, match="a server that runs already uses this folder"), _alone_in(tmp_path):
            pass
    with pytest.raises(InputError, match="a server that runs already uses this folder"), _alone_in(tmp_path):
        pass
    heir.stop()
    with _alone_in(tmp_path):
        pass
