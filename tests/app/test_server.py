"""A real server against clients that are careless or hostile."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import requests
from helpers_bundle import AFFINE, LABELS, ROOT, SHAPE, volume, write_model
from helpers_imaging import write_nifti
from helpers_server import serve, write_studies

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
TOKEN = "a-token-of-our-hospital-1"


def send(server, method, path, **kwargs):
    """Send a request and return status and JSON, which every answer must be."""
    answer = requests.request(method, server.url + path, timeout=120, **kwargs)
    return answer.status_code, answer.json()


def infer(server, model="tiny", image="case_0", params=None, **kwargs):
    """Ask for the data of a segmentation."""
    query = {"image": image, "output": "json"}
    data = {"params": params if isinstance(params, str) else json.dumps(params or {})}
    return send(server, "POST", f"/infer/{model}", params=query, data=data, **kwargs)


def label_file(folder, labels, affine=AFFINE, name="label.nii.gz"):
    """Write a label map and return it as an upload."""
    write_nifti(folder / name, labels, affine)
    return {"label": (name, (folder / name).read_bytes())}


def test_infer_answers_with_volumes_and_version(server):
    status, result = infer(server)
    assert status == 200
    assert result["label_names"] == LABELS
    assert result["model_version"] == "0.1.0"
    assert set(result["volumes"]) == set(LABELS)
    assert set(result["latencies"]) == {"model", "load", "network", "post", "write"}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ({"model": "nothing"}, 404, "unknown model 'nothing'; there are tiny"),
        ({"image": "nobody"}, 404, "'nobody' not found"),
        ({"image": "../../etc/passwd"}, 404, "not found"),
        ({"image": "/etc/passwd"}, 404, "not found"),
        ({"image": ""}, 400, "image: legal"),
        ({"params": "no json"}, 400, "params: not JSON"),
        ({"params": "[1]"}, 400, "params: legal: a JSON object"),
        ({"params": {"model_filename": "../../x.pt"}}, 400, "option 'model_filename'"),
        ({"params": {"bundle_path": "/tmp"}}, 400, "option 'bundle_path'"),
        ({"params": {"image": "/etc/passwd"}}, 400, "option 'image'"),
        ({"params": {"result_extension": "/../../x.nrrd"}}, 400, "result_extension"),
        ({"params": {"result_dtype": "object"}}, 400, "result_dtype"),
        ({"params": {"device": "xx"}}, 400, "device 'xx'"),
        ({"params": {"slices": "2-9"}}, 400, "slices '2-9'"),
        ({"params": {"slices": "-1"}}, 400, "slices '-1'"),
        ({"params": {"mirror": "maybe"}}, 400, "mirror 'maybe'"),
        ({"params": {"label_tag": "../.."}}, 400, "tag"),
    ],
)
def test_bad_infer_requests(server, arguments, status, words):
    got, answer = infer(server, **arguments)
    assert (got, words in answer["detail"]) == (status, True), answer


def test_cuda_without_a_gpu_is_refused(server):
    status, answer = infer(server, params={"device": "cuda"})
    assert status == 400
    assert "cuda" in answer["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/activelearning/nothing", 404),
        ("GET", "/datastore/image?image=../x", 404),
        ("GET", "/datastore/image?image=%00", 404),
        ("GET", "/datastore/label?label=case_0&tag=../..", 400),
        ("GET", "/datastore/label?label=case_0&tag=final", 404),
        ("GET", "/datastore/label?label=nobody&tag=final", 404),
        ("DELETE", "/datastore/label?id=case_0&tag=final", 404),
        ("DELETE", "/datastore/image?id=nobody", 404),
        ("GET", "/session/none", 404),
        ("DELETE", "/session/none", 404),
        ("GET", "/model/info/nothing", 404),
        ("PUT", "/model/tiny", 403),
        ("DELETE", "/model/tiny", 403),
        ("POST", "/reload", 403),
        ("POST", "/train/nothing", 404),
        ("POST", "/train/tiny?run_sync=true", 400),
        ("GET", "/train/?check_if_running=true", 404),
        ("POST", "/batch/infer/nothing", 404),
        ("POST", "/batch/infer/tiny?images=some", 400),
        ("GET", "/versions/nothing", 404),
        ("POST", "/versions/tiny/promote?version=../../x", 404),
        ("POST", "/versions/tiny/rollback", 400),
        ("POST", "/worklist/case_0/review", 422),
        ("GET", "/proxy/dicom/qido/studies", 404),
        ("POST", "/infer/wsi/tiny", 404),
        ("GET", "/logs/", 404),
        ("GET", "/static/../../../etc/passwd", 404),
    ],
)
def test_bad_requests(server, method, path, status):
    got, answer = send(server, method, path, json={"by": "x"} if "versions" in path else None)
    assert got == status, answer
    assert answer["detail"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"bundle_path": "/tmp"}, "bundle_path"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"max_epochs": "many"}, "max_epochs"),
        ({"run_id": "evil"}, "run_id"),
        ({"promote": "always"}, "promote"),
    ],
)
def test_bad_training_requests(server, body, words):
    """Options are looked at before a process is started for them."""
    status, answer = send(server, "POST", "/train/tiny", json=body)
    assert status == 400
    assert words in answer["detail"]


def test_train_body_that_is_no_object(server):
    assert send(server, "POST", "/train/tiny", json=[1])[0] == 422


def test_labels_that_do_not_belong(server, tmp_path):
    good = np.zeros(SHAPE, np.uint8)
    shifted = AFFINE.copy()
    shifted[0, 3] += 3
    cases = [
        (label_file(tmp_path, good[:-1]), {}, "shape"),
        (label_file(tmp_path, good, shifted), {}, "away from the image"),
        (label_file(tmp_path, good + 0.5), {}, "whole numbers"),
        (label_file(tmp_path, good + 1), {"label_info": [{"name": "liver", "idx": 2}]}, "not in label_info"),
        (label_file(tmp_path, good), {"label_info": "liver"}, "label_info"),
        (label_file(tmp_path, good), {"label_info": [{"name": "a", "idx": 1}, {"name": "b", "idx": 1}]}, "label_info"),
        ({"label": ("x.nii.gz", b"not an image")}, {}, "cannot be read"),
        ({"label": ("x.txt", b"text")}, {}, "file name"),
        ({"label": ("../../x.exe", b"text")}, {}, "file name"),
    ]
    for files, info, words in cases:
        data = {"params": json.dumps(info)}
        status, answer = send(server, "PUT", "/datastore/label?image=case_1", files=files, data=data)
        assert status == 400, answer
        assert words in answer["detail"], answer
    status, _ = send(server, "PUT", "/datastore/label?image=nobody", files=label_file(tmp_path, good))
    assert status == 404
    status, _ = send(server, "PUT", "/datastore/label?image=case_1&tag=../../x", files=label_file(tmp_path, good))
    assert status == 400
    assert server.get("/info/").json()["datastore"]["completed"] == 0
    assert not list((server.data_dir / "tmp").glob("*.nii.gz"))  # nothing of what was refused stays


def test_images_that_are_none(server, tmp_path):
    image = tmp_path / "new.nii.gz"
    write_nifti(image, volume(seed=1)[0], AFFINE)
    good = {"file": (image.name, image.read_bytes())}
    bad = [
        ("../../escaped", good, "image"),
        ("case_0", good, "is there already"),
        ("fine", {"file": ("x.nii.gz", image.read_bytes()[:100])}, "cannot be read"),
        ("fine", {"file": ("x.nii.gz", image.read_bytes()[:200])}, "cannot be read"),  # ITK reads this, with zeros
        ("fine", {"file": ("x.nii.gz", b"text")}, "cannot be read"),
        ("fine", {"file": ("x.pkl", pickle.dumps(1))}, "file name"),
    ]
    for name, files, words in bad:
        status, answer = send(server, "PUT", "/datastore/image", params={"image": name}, files=files)
        assert status == 400, answer
        assert words in answer["detail"], answer
    assert server.get("/info/").json()["datastore"]["total"] == 3
    assert not list(server.studies.parent.rglob("escaped*"))


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
    """Each gets what it asked for."""

    def ask(number):
        image, part = f"case_{number % 3}", f"{number % 5}"
        status, result = infer(server, image=image, params={"slices": part})
        return status, result

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(10)))
    alone = [ask(number) for number in range(10)]
    assert [status for status, _ in answers] == [200] * 10
    assert [result["volumes"] for _, result in answers] == [result["volumes"] for _, result in alone]


def test_status_answers_while_others_work(server):
    """A request for the state does not wait for all segmentations before it."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        busy = [pool.submit(infer, server) for _ in range(8)]
        assert server.get("/healthz").status_code == 200
        assert not all(job.done() for job in busy)


def test_leases_skips_and_reviews(tmp_path, models):
    with serve(write_studies(tmp_path / "studies", 3), models) as server:

        def next_of(who):
            return send(server, "POST", "/activelearning/first", json={"client_id": who})[1].get("id")

        assert [next_of("a"), next_of("b"), next_of("c"), next_of("d")] == ["case_0", "case_1", "case_2", None]
        assert send(server, "POST", "/worklist/case_0/skip", json={"client_id": "a"})[0] == 200
        assert [next_of("a"), next_of("d")] == [None, "case_0"]
        assert send(server, "POST", "/worklist/case_0/review", json={"client_id": "r"})[0] == 400
        labels = np.zeros(SHAPE, np.uint8)
        files = label_file(tmp_path, labels)
        data = {"params": json.dumps({"client_id": "d"})}
        assert send(server, "PUT", "/datastore/label?image=case_0", files=files, data=data)[0] == 200
        assert send(server, "POST", "/worklist/case_0/review", json={"client_id": "r"})[0] == 200
        images = server.get("/worklist/").json()["images"]
        assert images["case_0"] == {"state": "reviewed", "corrected_by": "d", "reviewed_by": "r", "with": None}
        assert images["case_1"]["with"] == "b"
        # batch: what is done is kept, and is no correction
        assert send(server, "POST", "/batch/infer/tiny", json={})[0] == 200
        status = {"progress": {}}
        for _ in range(240):
            status = server.get("/batch/infer").json()
            if status["status"] not in ("SUBMITTED", "RUNNING"):
                break
            time.sleep(0.5)
        assert status["status"] == "DONE", status
        assert status["progress"]["done"] == ["case_1", "case_2"]
        states = {image: entry["state"] for image, entry in server.get("/worklist/").json()["images"].items()}
        assert states == {"case_0": "reviewed", "case_1": "automatic", "case_2": "automatic"}


def test_token(tmp_path, models):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    studies = write_studies(tmp_path / "studies", 1)
    with serve(studies, models, "--token-file", str(file), "--upload-limit", "1") as server:
        assert server.get("/healthz").status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "swin_umamba_token=wrong"}):
            assert send(server, "GET", "/info/", headers=headers)[0] == 401
        assert send(server, "GET", "/info/", headers={"Authorization": f"Bearer {TOKEN}"})[0] == 200
        # 3D Slicer: any name, the token as password
        assert send(server, "GET", "/auth/")[1]["enabled"] is True
        assert send(server, "POST", "/auth/token", data={"username": "u", "password": "no"})[0] == 401
        got = send(server, "POST", "/auth/token", data={"username": "u", "password": TOKEN})[1]
        assert got == {"access_token": TOKEN, "token_type": "bearer"}
        # a browser: the login page's cookie
        browser = requests.Session()
        assert browser.post(f"{server.url}/login", data={"token": "no"}, timeout=60).status_code == 401
        assert browser.post(f"{server.url}/login", data={"token": TOKEN}, timeout=60).url.endswith("/ohif/")
        assert browser.get(f"{server.url}/info/", timeout=60).status_code == 200
        # another page in the same browser may not
        assert (
            browser.get(f"{server.url}/info/", headers={"Origin": "https://evil.example"}, timeout=60).status_code
            == 403
        )
        too_large = {"file": ("x.nii.gz", b"0" * 2**21)}
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert send(server, "PUT", "/datastore/image?image=x", files=too_large, headers=bearer)[0] == 413
        log = (server.data_dir / "logs" / "server.log").read_text()
        assert TOKEN not in log


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


def test_without_a_model_the_server_says_what_to_do(tmp_path):
    (tmp_path / "models").mkdir()
    with serve(write_studies(tmp_path / "studies", 1), tmp_path / "models") as server:
        info = server.get("/info/").json()
        assert info["models"] == {}
        assert "models/" in info["description"]
        assert "models/" in (server.data_dir / "logs" / "server.log").read_text()


def test_logs_and_metrics_name_no_case(server):
    infer(server, image="case_2")
    metrics = server.get("/metrics").text
    assert 'route="/infer/{model}"' in metrics
    log = (server.data_dir / "logs" / "server.log").read_text()
    assert re.search(r'"message": "POST /infer/\{model\} 200", "request_id": "[0-9a-f]{12}", "seconds": [0-9.]+', log)
    assert "case_2" not in metrics + log


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


def read_label(server, image, folder):
    """Return a stored label, downloaded."""
    answer = server.get(f"/datastore/label?label={image}&tag=final")
    assert answer.status_code == 200, answer.text
    (folder / "back.nii.gz").write_bytes(answer.content)
    return np.asarray(nib.load(folder / "back.nii.gz").dataobj)


def test_kill_during_training_leaves_the_served_model(tmp_path):
    write_model(tmp_path / "models" / "tiny")
    studies = write_studies(tmp_path / "studies", 1)
    with serve(studies, tmp_path / "models") as server:
        image, labels = volume(seed=100)
        files = label_file(tmp_path, labels)
        assert send(server, "PUT", "/datastore/label?image=case_0", files=files)[0] == 200
        body = {"max_epochs": 500, "iterations_per_epoch": 50}
        assert send(server, "POST", "/train/tiny", json=body)[0] == 200
        assert send(server, "POST", "/train/tiny", json=body)[0] == 429
        for _ in range(240):
            if server.get("/info/").json()["train_stats"]["tiny"]:
                break
            time.sleep(0.5)
        assert server.get("/info/").json()["train_stats"]["tiny"]["total_epochs"] == 500
        assert send(server, "DELETE", "/train/")[0] == 200
        assert server.get("/train/").json()["status"] == "STOPPED"
        assert [row["version"] for row in server.get("/versions/tiny").json()["versions"]] == ["0.1.0"]
        assert infer(server)[1]["model_version"] == "0.1.0"
        # one labelled case is enough; nobody is held out, so the result waits
        body = {"max_epochs": 1, "iterations_per_epoch": 1}
        assert send(server, "POST", "/train/tiny", json=body)[0] == 200
        assert server.wait_for_training()["status"] == "DONE"
        rows = server.get("/versions/tiny").json()["versions"]
        assert [(row["version"], row["served"]) for row in rows] == [("0.1.0", True), ("0.1.1", False)]
        assert infer(server)[1]["model_version"] == "0.1.0"
