"""What `/ohif/` answers: files with their types, our files before the site's, one page for the page's own addresses."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from monailabel_app.ohif import site
from monailabel_app.ohif.package import VERSION

HASHED = "app.bundle.0123456789abcdef.js"


@pytest.fixture
def client(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    for name, text in {
        "index.html": "<html>the page",
        "app-config.js": "theirs",
        HASHED: "code",
        "0123456789abcdef.wasm": "wasm",
        "module.mjs": "export {}",
        "app.bundle.css": "css",
    }.items():
        (folder / name).write_text(text)
    (tmp_path / "secret.txt").write_text("secret")

    async def answer(request):
        return await site.site_of(folder).get_response(request.path_params["path"], request.scope)

    return TestClient(Starlette(routes=[Route("/ohif/{path:path}", answer, methods=["GET", "HEAD"])]))


@pytest.mark.parametrize("path", ["", "segmentation?StudyInstanceUIDs=1.2.3", "viewer/dicomlocal"])
def test_addresses_of_the_page_are_the_page(client, path):
    answer = client.get(f"/ohif/{path}")
    assert answer.text == "<html>the page"
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("name", "kind", "cache"),
    [
        (HASHED, "text/javascript", site.FOREVER),
        ("0123456789abcdef.wasm", "application/wasm", site.FOREVER),
        ("module.mjs", "text/javascript", site.CHECK),
        ("app.bundle.css", "text/css", site.CHECK),
        ("monailabel/index.js", "text/javascript", site.CHECK),
    ],
)
def test_files_have_their_types_and_stay_in_the_browser(client, name, kind, cache):
    answer = client.get(f"/ohif/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == kind
    assert answer.headers["cache-control"] == cache
    again = client.get(f"/ohif/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_our_configuration_lies_over_theirs(client):
    text = client.get("/ohif/app-config.js").text
    assert text == (site.OVERLAY / "app-config.js").read_text()
    assert "/ohif/monailabel/index.js" in text


@pytest.mark.parametrize(
    "path", ["missing.js", "ort/ort.wasm", "%2e%2e/secret.txt", "..%2fsecret.txt", "a/..%2f..%2fsecret.txt"]
)
def test_what_is_no_file_of_the_site_is_not_there(client, path):
    answer = client.get(f"/ohif/{path}")
    assert answer.status_code == 404
    assert "secret" not in answer.text


def test_head_has_no_body(client):
    answer = client.head(f"/ohif/{HASHED}")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "4")


def test_viewer_is_the_fetched_one_or_else_the_old_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert site.find_viewer(tmp_path) == site.OLD
    assert (site.OLD / "index.html").is_file()
    for place in (tmp_path / "share" / "swin_umamba" / "ohif", tmp_path / "ohif"):
        (place / VERSION).mkdir(parents=True)
        (place / VERSION / "index.html").write_text("")
        assert site.find_viewer(tmp_path) == place / VERSION
    assert Path(site.Site(site.OLD).all_directories[0]) == site.OLD
