"""3D Slicer, OHIF and other web pages against a server that asks for a token."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import numpy as np
import pytest
import requests
from helpers_bundle import AFFINE, ROOT, SHAPE, volume, write_model
from helpers_fuzz import KNOWN, PLACES, fuzz
from helpers_imaging import write_nifti
from helpers_server import send as ask
from helpers_server import serve, write_studies
from monailabel.client import MONAILabelClient

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TOKEN = "a-token-of-our-hospital-1"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
VIEWER = "https://viewer.example.org"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("token")
    (folder / "token").write_text(TOKEN + "\n")
    write_model(folder / "models" / "tiny")
    options = ("--token-file", str(folder / "token"), "--cors-origin", VIEWER, "--upload-limit", "1")
    with serve(write_studies(folder / "studies", 2), folder / "models", *options) as running:
        yield running


def test_who_is_let_in(server):
    assert server.get("/healthz").status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "swin_umamba_token=wrong"}):
        assert ask(server, "GET", "/info/", headers=headers)[0] == 401
    assert ask(server, "GET", "/info/", headers=BEARER)[0] == 200
    # 3D Slicer: any name, the token as password
    assert ask(server, "GET", "/auth/")[1]["enabled"] is True
    assert ask(server, "POST", "/auth/token", data={"username": "u", "password": "no"})[0] == 401
    got = ask(server, "POST", "/auth/token", data={"username": "u", "password": TOKEN})[1]
    assert got == {"access_token": TOKEN, "token_type": "bearer"}
    # a browser: the login page's cookie
    browser = requests.Session()
    assert browser.post(f"{server.url}/login", data={"token": "no"}, timeout=60).status_code == 401
    assert browser.post(f"{server.url}/login", data={"token": f"{TOKEN}\n"}, timeout=60).url.endswith("/ohif/")
    assert browser.get(f"{server.url}/info/", timeout=60).status_code == 200
    # another page in the same browser may not
    assert browser.get(f"{server.url}/info/", headers={"Origin": "https://evil.example"}, timeout=60).status_code == 403
    too_large = {"file": ("x.nii.gz", b"0" * 2**21)}
    assert ask(server, "PUT", "/datastore/image?image=x", files=too_large, headers=BEARER)[0] == 413
    log = (server.data_dir / "logs" / "server.log").read_text()
    assert TOKEN not in log


def logged_in(server):
    """Return a client that has done what the module does when it meets a server with a login."""
    client = MONAILabelClient(server.url, tmpdir=str(server.data_dir), client_id="alice")
    assert client.auth_enabled()
    assert not client.auth_valid_token()
    client.update_auth(client.auth_token("alice", TOKEN))
    assert client.auth_valid_token()
    return client


def test_slicer_logs_in(server):
    client = logged_in(server)
    assert client.info()["models"]
    stranger = MONAILabelClient(server.url, tmpdir=str(server.data_dir), client_id="alice")
    with pytest.raises(Exception, match="Status: 401"):
        stranger.auth_token("alice", "wrong")
    assert requests.post(f"{server.url}/infer/tiny?image=case_0", timeout=60).status_code == 401


def test_slicers_own_download_of_the_next_sample(server, tmp_path, monkeypatch):
    """The module loads the image by `urllib.request.urlretrieve`, without the token that it has."""
    sample = logged_in(server).next_sample("first", {})
    url = f"{server.url}/datastore/image?image={sample['id']}"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlretrieve(url, tmp_path / sample["name"])
    script = (ROOT / "monailabel_app" / "deploy" / "slicer_startup.py").read_text()
    names = {"__name__": "startup"}
    monkeypatch.setattr(urllib.request, "_opener", None)
    exec(compile(script, "startup", "exec"), names)
    (tmp_path / "token").write_text(TOKEN)
    names.update(SERVER=server.url, TOKEN_FILE=tmp_path / "token")
    urllib.request.urlretrieve(url, tmp_path / sample["name"])
    assert (tmp_path / sample["name"]).read_bytes() == (server.studies / "case_0.nii.gz").read_bytes()
    names.update(SERVER=f"{server.url}0")  # another server gets no token
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlretrieve(url, tmp_path / "again.nii.gz")


def test_own_volume_that_slicer_has_named_after_its_series(server, tmp_path):
    client, name = logged_in(server), "6: T2 HASTE (cor), 2.5mm"
    image, labels = volume(seed=7)
    file = write_nifti(tmp_path / "tmp1a2b.nii.gz", image, AFFINE)
    session = client.create_session(str(file))["session_id"]
    assert client.get_session(session)
    assert client.infer("tiny", name, {"result_extension": ".nrrd"}, session_id=session)[1]["labels"]
    assert client.upload_image(str(file), name)["image"] == name
    path = write_nifti(tmp_path / "label.nii.gz", labels, AFFINE)
    info = [{"name": "liver", "idx": 1}, {"name": "spleen", "idx": 2}]
    assert client.save_label(name, str(path), params={"label_info": info})["label"] == name
    assert client.infer("tiny", name, {"slices": "1", "result_extension": ".nii.gz"})[1]["labels"]
    client.remove_session(session)
    images = client.datastore()["objects"]
    assert images[name]["labels"]["final"]["info"]["client_id"] == "alice"


def test_label_to_be_changed_that_a_client_sends(server, tmp_path):
    """It is looked at like a submitted one; its values may have any names."""
    url, query = f"{server.url}/infer/tiny", {"image": "case_1", "output": "json"}
    params = {"slices": "0", "label_info": [{"name": "spleen", "idx": 1}]}
    for value, status in ((1, 200), (2, 400), (0.5, 400), (300, 400)):
        path = write_nifti(tmp_path / "before.nii.gz", np.full(SHAPE, value, np.float32), AFFINE)
        with open(path, "rb") as label:
            files, data = {"label": ("before.nii.gz", label)}, {"params": json.dumps(params)}
            answer = requests.post(url, params=query, files=files, data=data, headers=BEARER, timeout=60)
        assert answer.status_code == status, answer.text
        if status == 200:
            assert answer.json()["volumes"]["spleen"]["voxels"] >= SHAPE[0] * SHAPE[1] * (SHAPE[2] - 1)


def test_pages_of_configured_origins_alone(server):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origin, allowed in ((VIEWER, True), ("https://evil.example", False)):
        before = requests.options(f"{server.url}/infer/tiny", headers={"Origin": origin, **asked}, timeout=60)
        assert (before.headers.get("access-control-allow-origin") == origin) is allowed
        answer = requests.get(f"{server.url}/info/", headers={"Origin": origin, **BEARER}, timeout=60)
        assert answer.status_code == (200 if allowed else 403)
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
        assert answer.headers.get("access-control-allow-origin") != "*"


def test_no_request_without_the_token(server):
    """Whatever there is, in the schema and beside it, but for the log-in and whether the server is up."""
    schema = server.get("/openapi.json", headers=BEARER).json()
    asked = [(method.upper(), path) for path, methods in schema["paths"].items() for method in methods]
    asked += [(method, f"{place}x") for place in PLACES for method in ("GET", "POST", "PUT", "DELETE")]
    asked += [("GET", "/openapi.json"), ("GET", "/"), ("GET", "/docs"), ("POST", "/no/such/address")]
    opened = set()
    for method, path in asked:
        for headers in ({}, {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Cookie": f"swin_umamba_token={TOKEN}x"}):
            address = server.url + path.replace("{", "").replace("}", "")
            answer = requests.request(method, address, headers=headers, timeout=60, allow_redirects=False)
            if answer.status_code != 401:
                opened.add((method, path.partition("?")[0]))
    login = {(method, "/login") for method in ("GET", "PUT", "DELETE")}  # POST of a wrong token is 401, too
    assert opened == {("GET", "/healthz"), ("GET", "/auth/"), ("POST", "/auth/token"), *login}


def test_every_request_of_the_schema_with_the_token(server):
    """The last test: things are deleted."""
    fuzz(server, KNOWN, BEARER)
