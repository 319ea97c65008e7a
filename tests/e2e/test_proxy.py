"""The documented nginx in front of the server: TLS, log-in, uploads, OHIF and 3D Slicer's client go through it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from helpers_browser import chromium
from helpers_imaging import write_nifti
from helpers_ohif import ODD, PROXY, SMALL, TOKEN, Reader, assert_same, planes_of, reader
from helpers_pacs import ORGANS
from helpers_proxy import nginx_in_front_of
from monailabel.client import MONAILabelClient
from playwright.sync_api import expect

from monailabel_app.security import COOKIE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

BEARER = {"Authorization": f"Bearer {TOKEN}"}
MIB = 2**20


@pytest.fixture(scope="module")
def proxy(clinic, tmp_path_factory):
    """The clinic's server as its people reach it."""
    folder = tmp_path_factory.mktemp("proxy") / "nginx"
    with nginx_in_front_of(int(clinic.server.url.rpartition(":")[2]), folder) as (url, certificate):
        yield SimpleNamespace(url=url, certificate=str(certificate), folder=folder)


@pytest.fixture
def web(proxy, monkeypatch):
    """A browser's session that trusts the hospital's authority."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", proxy.certificate)  # it wins over what a session is told to verify
    with requests.Session() as session:
        yield session


def test_log_in_is_for_https_and_for_this_site_alone(proxy, web):
    asked = web.get(f"{proxy.url}/ohif/", headers={"Accept": "text/html"}, timeout=60)
    assert asked.url == f"{proxy.url}/login?next=%2Fohif%2F"
    answer = web.post(asked.url, data={"token": TOKEN}, timeout=60)
    assert answer.url == f"{proxy.url}/ohif/"
    (cookie,) = web.cookies
    assert (cookie.name, cookie.secure) == (COOKIE, True)
    told = answer.history[0].headers["set-cookie"]
    assert "HttpOnly" in told
    assert "SameSite=strict" in told
    assert web.get(f"{proxy.url}/info", timeout=60).url == f"{proxy.url}/info/"  # a redirection stays here
    own, foreign = {"Origin": proxy.url}, {"Origin": "https://evil.example"}
    assert web.get(f"{proxy.url}/info/", headers=own, timeout=60).status_code == 200
    assert web.get(f"{proxy.url}/info/", headers=foreign, timeout=60).status_code == 403
    assert requests.get(f"{proxy.url}/info/", timeout=60).status_code == 401
    with requests.Session() as stranger:
        stranger.trust_env = False
        with pytest.raises(requests.exceptions.SSLError):
            stranger.get(f"{proxy.url}/healthz", timeout=60)


def test_uploads_as_large_as_volumes(proxy, web, tmp_path):
    """nginx's own limit, 1 MiB, would refuse them; what is too large even for the server is refused by nginx."""
    url = f"{proxy.url}/session/"
    volume = write_nifti(tmp_path / "a.nii", np.arange(20 * MIB, dtype=np.int16).reshape(256, 256, -1), np.eye(4))
    answer = web.put(url, files={"files": ("a.nii", volume.read_bytes())}, headers=BEARER, timeout=120)
    assert answer.status_code == 200, answer.text
    session = answer.json()["session_id"]
    assert web.get(f"{proxy.url}/session/{session}", headers=BEARER, timeout=60).status_code == 200
    web.delete(f"{proxy.url}/session/{session}", headers=BEARER, timeout=60)
    asked = requests.Request("PUT", url, headers=BEARER).prepare()
    asked.headers["Content-Length"] = str(3 * 1024 * MIB)
    assert web.send(asked, verify=proxy.certificate, timeout=60).status_code == 413


def test_slicers_client(clinic, proxy, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", proxy.certificate)  # of its uploads; all else it sends unchecked

    def client() -> MONAILabelClient:  # the module makes a new one for each thing that it does
        found = MONAILabelClient(proxy.url, tmpdir=str(tmp_path), client_id="Roe^Jane")
        assert found.auth_enabled()
        found.update_auth(found.auth_token("anybody", TOKEN))
        return found

    assert client().info()["models"]
    image = clinic.series(PROXY)
    label, about = client().infer("seeing", image, {"result_extension": ".nii.gz"})
    assert about["label_names"] == ORGANS
    info = [{"name": organ, "idx": number} for organ, number in ORGANS.items()]
    assert client().save_label(image, label, params={"label_info": info, "model": "seeing"})["pacs"] == "stored"
    assert str(clinic.segmentation(PROXY).ContentCreatorName) == "Roe^Jane"
    volume = write_nifti(tmp_path / "own.nii.gz", np.ones((8, 8, 4), np.float32), np.eye(4))
    client().remove_session(client().create_session(str(volume))["session_id"])


def test_ohif(clinic, proxy):
    context = chromium().new_context(
        viewport=dict(zip(("width", "height"), SMALL, strict=True)), ignore_https_errors=True
    )
    outside = dataclasses.replace(clinic.server, url=proxy.url)
    with context, reader(outside, context) as person:
        person.log_in(TOKEN)
        correct_and_store(clinic, person)
        assert not person.errors
        assert not person.page.foreign
        assert not [url for status, url in person.page.asked if status >= 400]


def correct_and_store(clinic, person: Reader) -> None:
    """Segment, paint and store, and compare with what the PACS has."""
    person.open(clinic.study(ODD))
    person.segment()
    before = person.voxels()
    person.stroke("Brush", (0.42, 0.4), (0.58, 0.45))
    painted = person.voxels()
    assert any(not np.array_equal(before[uid], painted[uid]) for uid in before)
    person.store()
    expect(person.part("badge")).to_contain_text("Stored by Roe^Jane")
    assert_same(planes_of(clinic.segmentation(ODD)), painted)


def test_nothing_of_images_in_its_logs(proxy):
    """The last test: addresses hold names of images."""
    assert not (proxy.folder / "access.log").read_text()
    assert "image=" not in (proxy.folder / "error.log").read_text()
