"""`kill -9` of the server and of a training: what was answered for stays, and what is served stays."""

from __future__ import annotations

import concurrent.futures
import json
import time

import nibabel as nib
import numpy as np
import psutil
import pytest
import requests
from helpers_bundle import SHAPE, volume, write_model
from helpers_server import infer, label_file, read_label, send, serve, write_studies

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_kill_at_any_moment_loses_no_label(tmp_path, models):
    """A label that was answered for is there after kill -9, while others were on their way."""
    studies, data = write_studies(tmp_path / "studies", 8), tmp_path / "data"
    names = [{"name": "liver", "idx": 1}, {"name": "spleen", "idx": 2}]
    kept: dict[str, np.ndarray] = {}
    for round_number in range(2):
        with serve(studies, models, data_dir=data) as server:
            for image, labels in kept.items():
                np.testing.assert_array_equal(read_label(server, image, tmp_path), labels)
            answers: list[str] = []

            def submit(number, server=server, answers=answers, round_number=round_number):
                labels = np.random.default_rng(10 * round_number + number).integers(0, 3, SHAPE).astype(np.uint8)
                files = label_file(tmp_path, labels, name=f"label_{number}.nii.gz")
                data = {"params": json.dumps({"label_info": names})}
                try:
                    status, _ = send(server, "PUT", f"/datastore/label?image=case_{number}", files=files, data=data)
                except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                    return None
                answers.append(f"case_{number}")
                if len(answers) == 3:
                    server.process.kill()
                return labels if status == 200 else None

            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                results = list(pool.map(submit, range(8)))
        answered = {f"case_{number}": labels for number, labels in enumerate(results) if labels is not None}
        assert 3 <= len(answered) < 8
        in_flight = {f"case_{number}" for number, labels in enumerate(results) if labels is None}
        kept = {image: labels for image, labels in kept.items() if image not in in_flight} | answered
    with serve(studies, models, data_dir=data) as server:
        for image, labels in kept.items():
            np.testing.assert_array_equal(read_label(server, image, tmp_path), labels)
        told = [json.loads(line) for line in (data / "audit.jsonl").read_text().splitlines()]
        assert {line["image"] for line in told} >= set(kept)
        for label in (studies / "labels" / "final").glob("[!.]*.nii.gz"):  # hidden: what was being written
            assert np.asarray(nib.load(label).dataobj).shape == SHAPE  # whole, whoever's it is


@pytest.fixture
def learning(tmp_path):
    """A server of its own with a model and one labelled case, which is enough to learn from."""
    write_model(tmp_path / "models" / "tiny")
    with serve(write_studies(tmp_path / "studies", 1), tmp_path / "models") as server:
        files = label_file(tmp_path, volume(seed=100)[1])
        assert send(server, "PUT", "/datastore/label?image=case_0", files=files)[0] == 200
        yield server


def task_process(server, method):
    """Return the process of a training or of a batch."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    living = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return next(child for child in living if method in child.cmdline())


def start_training(server, **options):
    """Start a training and wait until its first epoch runs; returns its process."""
    assert send(server, "POST", "/train/tiny", json=options)[0] == 200
    assert send(server, "POST", "/train/tiny", json=options)[0] == 429
    end = time.monotonic() + 120
    while not server.get("/info/").json()["train_stats"]["tiny"]:
        assert time.monotonic() < end, server.get("/train/").json()
        time.sleep(0.2)
    return task_process(server, "train")


def check_untouched(server):
    """Check that the installed version answers, and that there is no other."""
    assert [row["version"] for row in server.get("/versions/tiny").json()["versions"]] == ["0.1.0"]
    assert infer(server)[1]["model_version"] == "0.1.0"


LONG, SHORT = {"max_epochs": 500, "iterations_per_epoch": 50}, {"max_epochs": 1, "iterations_per_epoch": 1}


def test_stop_kill_and_full_disk_during_training_leave_the_served_model(learning):
    start_training(learning, **LONG)
    assert learning.get("/info/").json()["train_stats"]["tiny"]["total_epochs"] == 500
    assert send(learning, "DELETE", "/train/")[0] == 200
    assert learning.get("/train/").json()["status"] == "STOPPED"
    check_untouched(learning)
    start_training(learning, **LONG).kill()
    assert learning.wait_for_training()["status"] == "ERROR"
    check_untouched(learning)
    unlimited = (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY)
    psutil.Process(learning.process.pid).rlimit(psutil.RLIMIT_FSIZE, (200_000, psutil.RLIM_INFINITY))
    assert send(learning, "POST", "/train/tiny", json=SHORT)[0] == 200
    ended = learning.wait_for_training()
    psutil.Process(learning.process.pid).rlimit(psutil.RLIMIT_FSIZE, unlimited)
    assert ended["status"] == "ERROR"
    assert "cannot be written: File too large" in str(ended["details"])
    check_untouched(learning)
    # one labelled case is enough; nobody is held out, so the result waits
    assert send(learning, "POST", "/train/tiny", json=SHORT)[0] == 200
    assert learning.wait_for_training()["status"] == "DONE"
    rows = learning.get("/versions/tiny").json()["versions"]
    assert [(row["version"], row["served"]) for row in rows] == [("0.1.0", True), ("0.1.1", False)]
    assert infer(learning)[1]["model_version"] == "0.1.0"


def test_kill_of_the_server_while_it_trains(tmp_path):
    """The training outlives it; the next server serves what was served, and does not train the same model beside it."""
    write_model(tmp_path / "models" / "tiny")
    studies, models = write_studies(tmp_path / "studies", 1), tmp_path / "models"
    with serve(studies, models) as server:
        files = label_file(tmp_path, volume(seed=100)[1])
        assert send(server, "PUT", "/datastore/label?image=case_0", files=files)[0] == 200
        training = start_training(server, **LONG)
        server.process.kill()
    try:
        with serve(studies, models) as server:
            check_untouched(server)
            assert send(server, "POST", "/train/tiny", json=SHORT)[0] == 200
            ended = server.wait_for_training()
            assert ended["status"] == "ERROR"
            assert "is being trained already, started by an earlier server" in str(ended["details"])
    finally:
        training.kill()


def test_a_batch_that_was_killed_goes_on_where_it_was(tmp_path, models):
    count = 30
    with serve(write_studies(tmp_path / "studies", count), models) as server:

        def progress():
            return server.get("/batch/infer").json()["progress"]

        assert send(server, "POST", "/batch/infer/tiny", json={})[0] == 200
        end = time.monotonic() + 120
        while len(progress().get("done", [])) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        task_process(server, "batch_infer").kill()
        while server.get("/batch/infer").json()["status"] == "RUNNING":
            assert time.monotonic() < end
            time.sleep(0.1)
        done = progress()["done"]
        assert len(done) < count
        assert not progress()["finished"]
        assert send(server, "POST", "/batch/infer/tiny", json={})[0] == 200
        while not (state := progress())["finished"]:
            assert time.monotonic() < end
            time.sleep(0.2)
        assert set(state["kept"]) >= set(done)
        assert len(state["kept"]) + len(state["done"]) == state["total"] == count
        assert len(state["kept"]) <= len(done) + 1  # one may have been stored, and not yet told of
        assert state["failed"] == {}
        states = server.get("/worklist/").json()["progress"]
        assert (states["automatic"], states["total"]) == (count, count)
