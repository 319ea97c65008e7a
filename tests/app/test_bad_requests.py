"""A real server against clients that are careless or hostile: what is refused, how, and that nothing of it stays."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from helpers_bundle import AFFINE, SHAPE, volume
from helpers_imaging import write_nifti
from helpers_server import infer, label_file, send

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


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
        ({"params": {"mirror": True}}, 400, "has learnt from no mirror images; legal: false"),
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
        ("POST", "/infer/tiny?image=case_0&output=xyz", 422),
        ("POST", "/infer/tiny?image=case_0&output=rtstruct", 400),
        ("POST", "/infer/tiny?image=case_0&session_id=none", 404),
        ("PUT", "/datastore/image/info?image=nobody", 405),
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
