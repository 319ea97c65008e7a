"""A real server: what it answers, to whom, to how many at once, and what it says of itself."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import requests
from helpers_bundle import AFFINE, LABELS, ROOT, SHAPE, volume
from helpers_imaging import write_nifti
from helpers_server import infer, label_file, send, serve, write_studies

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_infer_answers_with_volumes_and_version(server):
    status, result = infer(server)
    assert status == 200
    assert result["labels"] == LABELS
    assert result["model_version"] == "0.1.0"
    assert set(result["volumes"]) == set(LABELS)
    assert set(result["latencies"]) == {"model", "load", "network", "post", "write"}


def test_models_of_photographs_are_left_out(server):
    about = server.get("/info/").json()
    assert (list(about["models"]), list(about["left_out"])) == (["tiny"], ["cells"])
    status, answer = infer(server, model="cells")
    assert (status, answer["detail"]) == (404, f"{about['left_out']['cells']}; there are tiny")
    assert "model left out: model 'cells' is for microscopy" in server.log.read_text()


def test_uploaded_file_is_segmented_without_being_kept(server, tmp_path):
    image = tmp_path / "C:\\own.nii.gz"
    write_nifti(image, volume(seed=1)[0], AFFINE)
    status, result = infer(server, image="", files={"file": (str(image), image.read_bytes())})
    assert status == 200, result
    assert server.get("/info/").json()["datastore"]["total"] == 3


def test_sessions(server, tmp_path):
    """An upload for a while; what is no image is refused at once."""
    image = write_nifti(tmp_path / "own.nii.gz", volume(seed=1)[0], AFFINE).read_bytes()
    status, answer = send(server, "PUT", "/session/", files={"files": ("own.nii.gz", image)})
    assert status == 200, answer
    session = answer["session_id"]
    assert infer(server, image="", params={}, headers={})[0] == 400
    query = {"session_id": session, "output": "json"}
    assert send(server, "POST", "/infer/tiny", params=query)[0] == 200
    assert server.get(f"/session/{session}?image=true").content == image
    assert send(server, "DELETE", f"/session/{session}")[0] == 200
    assert send(server, "POST", "/infer/tiny", params=query)[0] == 404
    for path in ("/session/..%2F..", f"/session/{session.upper()}"):
        assert send(server, "GET", path)[0] == 404
    bad = [("own.nii.gz", b"no image"), ("..", image), ("own.nii.gz", image[:200])]
    for file in bad:
        assert send(server, "PUT", "/session/", files={"files": file})[0] == 400
    twice = [("files", ("a.nii.gz", image)), ("files", ("b.nii.gz", image))]
    status, answer = send(server, "PUT", "/session/", files=twice)
    assert (status, "2 volumes" in answer["detail"]) == (400, True)
    assert not list((server.data_dir / "sessions").iterdir())


def test_ten_clients_at_once(server):
    """Each gets the label map that it asked for, and no two have asked for the same."""

    def ask(number):
        params = {"slices": f"{number % 5}", "result_extension": ".nrrd"}
        query = {"image": f"case_{number % 3}", "output": "image"}
        data = {"params": json.dumps(params)}
        return requests.post(f"{server.url}/infer/tiny", params=query, data=data, timeout=120)

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(10)))
    alone = [ask(number).content for number in range(10)]
    assert [answer.status_code for answer in answers] == [200] * 10
    assert len(set(alone)) == 10
    assert [answer.content for answer in answers] == alone


def test_status_answers_while_others_work(server):
    """A request for the state does not wait for all segmentations before it."""
    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        busy = [pool.submit(infer, server) for _ in range(60)]
        assert server.get("/healthz").status_code == 200
        assert not all(job.done() for job in busy)


@pytest.fixture(scope="module")
def without_model(tmp_path_factory):
    """A server of its own without any model."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "models").mkdir()
    with serve(write_studies(folder / "studies", 3), folder / "models") as running:
        yield running


def test_without_a_model_the_server_says_what_to_do(without_model):
    info = without_model.get("/info/").json()
    assert info["models"] == {}
    assert "models/" in info["description"]
    assert "models/" in (without_model.data_dir / "logs" / "server.log").read_text()


def test_leases_skips_and_reviews(without_model, tmp_path):
    """None of these needs a model."""
    server = without_model

    def next_of(who):
        return send(server, "POST", "/activelearning/first", json={"client_id": who})[1].get("id")

    assert [next_of("a"), next_of("b"), next_of("c"), next_of("d")] == ["case_0", "case_1", "case_2", None]
    assert send(server, "POST", "/worklist/case_0/skip", json={"client_id": "a"})[0] == 200
    assert [next_of("a"), next_of("d")] == [None, "case_0"]
    assert send(server, "POST", "/worklist/case_0/review", json={"client_id": "r"})[0] == 400
    files = label_file(tmp_path, np.zeros(SHAPE, np.uint8))
    data = {"params": json.dumps({"client_id": "d"})}
    assert send(server, "PUT", "/datastore/label?image=case_0", files=files, data=data)[0] == 200
    assert send(server, "POST", "/worklist/case_0/review", json={"client_id": "r"})[0] == 200
    images = server.get("/worklist/").json()["images"]
    assert images["case_0"] == {"state": "reviewed", "corrected_by": "d", "reviewed_by": "r", "with": None}
    assert images["case_1"] == {"state": "unlabelled", "corrected_by": None, "reviewed_by": None, "with": "b"}


def test_one_server_for_one_data_directory(server, models):
    command = [sys.executable, "-m", "monailabel_app", "--studies", str(server.studies), "--models", str(models)]
    command += ["--data-dir", str(server.data_dir), "--port", "1"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert second.returncode == 2
    assert "is used by a server that runs already" in second.stderr
    assert "Traceback" not in second.stderr


def test_monailabels_own_command_needs_the_guard(server):
    """Also: the app is found from a checkout, with nothing installed."""
    command = [shutil.which("monailabel"), "start_server", "--app", "monailabel_app", "--studies", str(server.studies)]
    command += ["--host", "127.0.0.1", "--port", "1"]
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    started = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=plain, check=False)
    assert started.returncode != 0
    assert "this app runs behind its guard only" in started.stdout + started.stderr
    shutil.rmtree(ROOT / "monailabel_app" / "logs", ignore_errors=True)


def test_logs_and_metrics_name_no_case(server):
    infer(server, image="case_2")
    metrics = server.get("/metrics").text
    assert 'route="/infer/{model}"' in metrics
    log = (server.data_dir / "logs" / "server.log").read_text()
    assert re.search(r'"message": "POST /infer/\{model\} 200", "request_id": "[0-9a-f]{12}", "seconds": [0-9.]+', log)
    assert "case_2" not in metrics + log
