"""Whatever a client sends, the server answers with what is wrong, and never with 500."""

from __future__ import annotations

import json

import pytest
import requests
import schemathesis
from helpers_pacs import need_orthanc, send, write_stack
from helpers_server import serve, write_studies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from swin_umamba.devices import choose_device
from swin_umamba.errors import InputError

from monailabel_app import train
from monailabel_app.checks import BATCH_OPTIONS, INFER_OPTIONS, TRAIN_OPTIONS, check_options, parse_json
from monailabel_app.datastore import check_name
from monailabel_app.infer import DISPLAYED, device_name, flag_of
from monailabel_app.meanings import label_values
from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.orthanc import orthanc
from monailabel_app.results import check_result_options, parse_slices

KNOWN = {  # values that lead into the server, beside those that the schema allows
    "model": ["tiny"],
    "image": ["case_0", "case_1"],
    "label": ["case_0", "case_1"],
    "id": ["case_2", "case_3"],
    "tag": ["final", "original"],
    "strategy": ["first", "random", "uncertainty"],
    "version": ["0.1.0", "0.1.1"],
    "images": ["unlabeled", "all"],
    "params": ['{"slices": "1"}', '{"result_extension": ".nrrd", "output": "x"}', "[]", '{"client_id": "a"}'],
}
STARTS_A_PROCESS = ("POST /train/", "POST /batch/infer/{model}", "POST /train/{model}")
MANY = settings(max_examples=300, derandomize=True, deadline=None, database=None)
SOME = settings(
    max_examples=12, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
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


def schema_of(server, known):
    """Return the server's schema, which lets nothing but known names through if there are any."""
    plain = server.get("/openapi.json").json()
    for methods in plain["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in known:
                    parameter["schema"] = {"enum": known[parameter["name"]]}
    for name, described in plain["components"]["schemas"].items():
        if known and name.startswith("Body_") and "params" in described.get("properties", {}):
            described["properties"]["params"] = {"anyOf": [{"enum": KNOWN["params"]}, {"type": "string"}]}
    schema = schemathesis.openapi.from_dict(plain)
    schema.config.update(base_url=server.url)
    return schema


@pytest.mark.e2e
@pytest.mark.timeout(600)
@pytest.mark.parametrize("known", [{}, KNOWN], ids=["any names", "known names"])
def test_every_request_of_the_schema(server, known):
    fuzz(server, known)


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_every_request_of_the_schema_of_a_pacs(tmp_path, models):
    need_orthanc()
    with orthanc(tmp_path / "orthanc") as connection:
        client = PacsClient(connection)
        series = [send(client, write_stack(tmp_path / stack, stack)[0]) for stack in ("axial ascending", "coronal")]
        with serve(connection.url, models, data_dir=tmp_path / "data", **connection.as_environment()) as running:
            fuzz(running, {**KNOWN, "image": series, "label": series, "id": series})


def fuzz(server, known):
    """Send every request of the schema, with these names in it."""
    operations = [found.ok() for found in schema_of(server, known).get_all_operations()]
    assert len(operations) > 30
    good = [_fuzz(operation) for operation in operations if operation.label not in STARTS_A_PROCESS]
    assert not known or sum(good) > 10  # known names lead inside
    assert server.get("/healthz").json()["status"] == "ok"


def _fuzz(operation):
    """Return whether a request was answered well."""
    statuses = set()

    @SOME
    @given(operation.as_strategy())
    def ask(case):
        answer = case.call(timeout=120)
        case.validate_response(answer, checks=[not_a_server_error])
        statuses.add(answer.status_code)

    ask()
    return 200 in statuses


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
