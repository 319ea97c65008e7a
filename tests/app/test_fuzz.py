"""Whatever a client sends, the server answers with what is wrong, and never with 500."""

from __future__ import annotations

import json

import pytest
import requests
from helpers_fuzz import KNOWN, fuzz, fuzz_paths
from helpers_server import serve, write_studies
from hypothesis import given, settings
from hypothesis import strategies as st
from swin_umamba.devices import choose_device
from swin_umamba.errors import InputError

from monailabel_app import train
from monailabel_app.checks import BATCH_OPTIONS, INFER_OPTIONS, TRAIN_OPTIONS, check_options, parse_json
from monailabel_app.datastore import check_name
from monailabel_app.meanings import label_values
from monailabel_app.results import check_result_options, parse_slices
from monailabel_app.segmenter import DISPLAYED, device_name, flag_of

MANY = settings(max_examples=300, derandomize=True, deadline=None, database=None)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def objects_of(names):
    """Generate objects with some of these names, and strangers, and any values."""
    return st.dictionaries(st.sampled_from(sorted(names)) | st.text(max_size=12), json_values, max_size=4)


def or_refused(work):
    """Do something that may refuse its input, in one way only."""
    try:
        return work()
    except InputError:
        return None


@MANY
@given(objects_of(TRAIN_OPTIONS))
def test_training_options(options):
    kept = or_refused(lambda: check_options(options, TRAIN_OPTIONS))
    if kept is not None:
        or_refused(lambda: train.check_options(kept))


@MANY
@given(objects_of(INFER_OPTIONS))
def test_infer_options(options):
    kept = or_refused(lambda: check_options(options, INFER_OPTIONS)) or {}
    or_refused(lambda: check_result_options(kept))
    or_refused(lambda: parse_slices(kept.get("slices"), 5))
    or_refused(lambda: [flag_of(kept, name) for name in (*DISPLAYED, "save_label")])
    or_refused(lambda: choose_device(device_name(kept.get("device") or "auto")))
    or_refused(lambda: label_values(kept))
    or_refused(lambda: check_options(options, BATCH_OPTIONS))


@MANY
@given(st.text(max_size=40))
def test_texts(text):
    or_refused(lambda: parse_json("params", text))
    or_refused(lambda: check_name("image", text))
    or_refused(lambda: parse_slices(text, 5))


@pytest.fixture(scope="module")
def server(tmp_path_factory, models):
    """A server of its own, because things are deleted."""
    with serve(write_studies(tmp_path_factory.mktemp("fuzz") / "studies", 4), models) as running:
        yield running


@pytest.mark.e2e
@pytest.mark.timeout(600)
@pytest.mark.parametrize("known", [{}, KNOWN], ids=["any names", "known names"])
def test_every_request_of_the_schema(server, known):
    fuzz(server, known)


@pytest.mark.e2e
def test_addresses_without_a_schema(server):
    fuzz_paths(server)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://[x"},
        {"Host": "[::"},
        {"Host": ""},
        {"Content-Length": "-1"},
        {"Cookie": "swin_umamba_token=\x80; ="},
        {"Authorization": "Bearer"},
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "application/json; charset=x"},
    ],
)
def test_headers(server, headers):
    for method, path in (("GET", "/info/"), ("POST", "/infer/tiny?image=case_0"), ("POST", "/activelearning/first")):
        try:
            answer = requests.request(method, server.url + path, headers=headers, data=b"{", timeout=60)
        except (requests.exceptions.InvalidHeader, requests.ConnectionError):
            continue
        assert answer.status_code < 500, (method, path, answer.text)


@pytest.mark.e2e
def test_bodies_that_are_no_objects(server):
    for path in ("/train/tiny", "/batch/infer/tiny", "/activelearning/first", "/versions/tiny/promote?version=0.1.0"):
        for body in ([1], "x", 1, [None], {"client_id": {"a": [1]}}, {"max_epochs": 1e999}, {"images": [["x"]]}):
            answer = requests.post(server.url + path, data=json.dumps(body), timeout=60)
            assert answer.status_code in (200, 400, 422), (path, body, answer.text)
    requests.delete(f"{server.url}/batch/infer", timeout=60)
