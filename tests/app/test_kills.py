"""`kill -9` of the server, of a training and of a batch: what was answered for stays, and what is served stays.

The tests go through one life of a data directory, in their order: a server is killed while labels come, the next one
while it trains, and the third finds everything.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import time

import nibabel as nib
import numpy as np
import psutil
import pytest
import requests
from helpers_bundle import BUNDLE, SHAPE, write_model
from helpers_server import infer, label_file, read_label, send, serve, write_studies
from swin_umamba.errors import InputError

from monailabel_app.settings import AppSettings
from monailabel_app.train import FineTuneTask
from monailabel_app.versions import ModelStore

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
IMAGES = 16
PARAMS = {"label_info": [{"name": "liver", "idx": 1}, {"name": "spleen", "idx": 2}]}
LONG, SHORT = {"max_epochs": 500, "iterations_per_epoch": 50}, {"max_epochs": 1, "iterations_per_epoch": 1}


class Life:
    """Images, models and a data directory that servers follow each other on."""

    def __init__(self, folder):
        self.folder, self.models, self.data = folder, folder / "models", folder / "data"
        write_model(self.models / "tiny")
        self.studies = write_studies(folder / "studies", IMAGES)
        self.kept = {}  # image -> labels of which one must be there
        self._server = contextlib.ExitStack()
        self.server = None

    def start(self):
        """Start the next server."""
        self.server = self._server.enter_context(serve(self.studies, self.models, data_dir=self.data))

    def kill(self):
        """Kill the server and leave its children alone."""
        self.server.process.kill()
        self.stop()

    def stop(self):
        self._server.close()

    def submit(self, number, seed):
        """Submit labels of chance; returns the status, None if the server died meanwhile, and the labels."""
        labels = np.random.default_rng(seed).integers(0, 3, SHAPE).astype(np.uint8)
        files, data = label_file(self.folder, labels, name=f"l{number}.nii.gz"), {"params": json.dumps(PARAMS)}
        try:
            query = f"/datastore/label?image=case_{number}"
            return send(self.server, "PUT", query, files=files, data=data)[0], labels
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            return None, labels


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    found = Life(tmp_path_factory.mktemp("life"))
    found.start()
    yield found
    found.stop()


def check_labels(life):
    """Check that of every image a label lies there that was answered for, or that replaced it."""
    for image, legal in life.kept.items():
        found = read_label(life.server, image, life.folder)
        assert any(np.array_equal(found, labels) for labels in legal), image
    told = [json.loads(line) for line in (life.data / "audit.jsonl").read_text().splitlines()]
    assert {line["image"] for line in told} >= set(life.kept)
    for label in (life.studies / "labels" / "final").glob("[!.]*.nii.gz"):  # hidden: what was being written
        assert np.asarray(nib.load(label).dataobj).shape == SHAPE  # whole, whoever's it is


def test_kill_of_the_server_while_labels_come(life):
    """A label that was answered for is there, new or in the place of an earlier one."""
    for number in range(3):
        status, labels = life.submit(number, number)
        assert status == 200
        life.kept[f"case_{number}"] = [labels]
    answers = []

    def submit(number):
        status, labels = life.submit(number, 100 + number)
        if status is not None:
            answers.append(number)
        if len(answers) == 3:
            life.server.process.kill()
        return status, labels

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(submit, range(8)))
    assert 3 <= sum(status == 200 for status, _ in results) < 8
    for number, (status, labels) in enumerate(results):
        before = life.kept.get(f"case_{number}", [])
        if status == 200:
            life.kept[f"case_{number}"] = [labels]
        elif before:
            before.append(labels)  # nobody knows whether it arrived
    life.kill()
    life.start()
    check_labels(life)


def task_process(server, method):
    """Return the process of a training or of a batch."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    living = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    return next(child for child in living if method in child.cmdline())


def wait_until(found, seconds=120):
    """Return what a question gives once that is not empty."""
    end = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return answer


def test_a_batch_that_was_killed_goes_on_where_it_was(life):
    """What people have made is left alone, and what is done is not done again."""
    server = life.server

    def progress():
        return server.get("/batch/infer").json()["progress"]

    def is_over():
        return server.get("/batch/infer").json()["status"] not in ("SUBMITTED", "RUNNING")

    count = server.get("/worklist/").json()["progress"]["unlabelled"]
    assert count == IMAGES - len(list((life.studies / "labels" / "final").glob("[!.]*.nii.gz")))
    assert send(server, "POST", "/batch/infer/tiny", json={})[0] == 200
    wait_until(lambda: len(progress().get("done", [])) >= 2)
    task_process(server, "batch_infer").kill()
    wait_until(is_over)
    done = progress()["done"]
    assert len(done) < count
    assert not progress()["finished"]
    assert send(server, "POST", "/batch/infer/tiny", json={})[0] == 200
    state = wait_until(lambda: found if (found := progress())["finished"] else None)
    assert set(state["kept"]) >= set(done)
    assert len(state["kept"]) + len(state["done"]) == state["total"] == count
    assert len(state["kept"]) <= len(done) + 1  # one may have been stored, and not yet told of
    assert state["failed"] == {}

    def counted():  # the server sees a moment later what another process has written
        states = server.get("/worklist/").json()["progress"]
        return (states["automatic"], states["corrected"]) == (count, IMAGES - count)

    wait_until(counted)
    check_labels(life)


def start_training(server):
    """Start a long training and wait until its first epoch runs; returns its process."""
    assert send(server, "POST", "/train/tiny", json=LONG)[0] == 200
    assert send(server, "POST", "/train/tiny", json=LONG)[0] == 429
    wait_until(lambda: server.get("/info/").json()["train_stats"]["tiny"])
    return task_process(server, "train")


def check_untouched(server):
    """Check that the installed version answers, and that there is no other."""
    assert [row["version"] for row in server.get("/versions/tiny").json()["versions"]] == ["0.1.0"]
    assert infer(server)[1]["model_version"] == "0.1.0"


def test_stop_and_kill_of_a_training_leave_the_served_model(life):
    server = life.server
    start_training(server)
    assert server.get("/info/").json()["train_stats"]["tiny"]["total_epochs"] == 500
    assert send(server, "DELETE", "/train/")[0] == 200
    assert server.get("/train/").json()["status"] == "STOPPED"
    check_untouched(server)
    start_training(server).kill()
    assert server.wait_for_training()["status"] == "ERROR"
    check_untouched(server)


def test_kill_of_the_server_while_it_trains(life):
    """The training outlives it; the next server serves what was served, and does not train the same model beside it."""
    training = start_training(life.server)
    life.kill()
    try:
        life.start()
        check_untouched(life.server)
        check_labels(life)
        settings = AppSettings(bundle_root=BUNDLE, model_folders=(life.models,), data_dir=life.data)
        task = FineTuneTask("tiny", ModelStore(settings.model_folders, life.data), settings)
        with pytest.raises(InputError, match="is being trained already, started by an earlier server"):
            task(SHORT, None)
        assert training.is_running()
    finally:
        training.kill()
