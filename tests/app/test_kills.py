"""`kill -9` of the server and of a training: what was answered for stays, and what is served stays."""

from __future__ import annotations

import concurrent.futures
import json
import time

import nibabel as nib
import numpy as np
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
