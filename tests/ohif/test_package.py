"""Fetching the viewer: verified, complete or absent, from any registry or from files."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from swin_umamba.errors import InputError

from monailabel_app.ohif import package
from monailabel_app.ohif.__main__ import main

VIEWER = {
    "package/dist/index.html": b'<script>window.PUBLIC_URL="/"</script><script defer src="/app.bundle.js"></script>'
    b'<script rel="preload" as="script" type="module" src="/init-service-worker.js"></script><link href="/a.css">',
    "package/dist/app.bundle.0123456789abcdef.js": b'__webpack_require__.p = "/";\nf("/studies");',
    "package/dist/a.css": b"@font-face { src: url(/0123456789abcdef.woff2) }",
    "package/dist/app.bundle.0123456789abcdef.js.map": b"{}",
    "package/dist/app-config.js": b"theirs",
    "package/dist/sw.js": b"importScripts()",
    "package/dist/ort/ort.wasm": b"large",
    "package/dist/dicom-microscopy-viewer/x.js": b"large",
    "package/dist/assets/logo.svg": b"<svg/>",
    "package/../outside.txt": b"no",
    "package/dist/../../outside.txt": b"no",
    "package/LICENSE": b"MIT",
    "package/src/index.js": b"source",
}
TOOL = {
    "package/dist/pipelines/x.wasm": b"\0asm",
    "package/dist/pipelines/x.wasm.zst": b"twice",
    "package/dist/index.js": b"no",
}


def pack(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("package/dist/link.js")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return target.getvalue()


class Registry:
    """An npm registry on this machine, which can break off, and what it was asked."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked, self.cut = files, [], 0
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                content = registry.files.get(self.path.removeprefix("/npm/"))
                start = int((self.headers["Range"] or "bytes=0-")[6:-1])
                registry.asked.append((self.path, start))
                if content is None or start >= len(content):
                    self.send_error(404 if content is None else 416)
                    return
                self.send_response(206 if self.headers["Range"] else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                end = registry.cut or len(content)
                self.wfile.write(content[start:end])

            def log_message(self, *args) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/npm"


@pytest.fixture
def packages(monkeypatch):
    """Small packages in place of the pinned ones, by their path in a registry."""
    contents = [pack(VIEWER), pack(TOOL)]
    small = [
        dataclasses.replace(pinned, sha512=hashlib.sha512(content).hexdigest())
        for pinned, content in zip(package.PACKAGES, contents, strict=True)
    ]
    monkeypatch.setattr(package, "PACKAGES", tuple(small))
    return {item.path: content for item, content in zip(small, contents, strict=True)}


@pytest.fixture
def registry(packages):
    found = Registry(dict(packages))
    yield found
    found.server.shutdown()


def test_pinned_packages_lie_where_every_registry_has_them():
    assert [item.path for item in package.PACKAGES] == [
        "@ohif/app/-/app-3.13.2.tgz",
        "@itk-wasm/morphological-contour-interpolation/-/morphological-contour-interpolation-1.1.0.tgz",
    ]
    assert all(len(item.sha512) == 128 for item in package.PACKAGES)


def test_fetched_site_holds_what_is_served_below_its_address(registry, tmp_path):
    site = package.fetch(tmp_path, registry=registry.address)
    assert site == tmp_path / package.VERSION == package.find_site([tmp_path / "other", tmp_path])
    found = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    names = ("index.html", "app.bundle.0123456789abcdef.js", "a.css", "assets/logo.svg", "LICENSE")
    assert found == {*names, "interpolation/x.wasm"}
    page = (site / "index.html").read_text()
    assert page == (
        '<script>window.PUBLIC_URL="/ohif/"</script><script defer src="/ohif/app.bundle.js"></script>'
        '<link href="/ohif/a.css">'
    )
    script = (site / "app.bundle.0123456789abcdef.js").read_text()
    assert script == '__webpack_require__.p = "/ohif/";\nf("/studies");'
    assert "url(/ohif/0123456789abcdef.woff2)" in (site / "a.css").read_text()
    assert [path.name for path in tmp_path.iterdir()] == [package.VERSION]
    assert not (tmp_path.parent / "outside.txt").exists()


def test_site_that_is_there_is_not_fetched_again(registry, tmp_path):
    package.fetch(tmp_path, registry=registry.address)
    asked = len(registry.asked)
    package.fetch(tmp_path, registry=registry.address)
    assert len(registry.asked) == asked == 2


def test_broken_download_goes_on_where_it_ended(registry, tmp_path):
    registry.cut = 100
    with pytest.raises(InputError, match="cannot download"):
        package.fetch(tmp_path, registry=registry.address)
    assert package.find_site([tmp_path]) is None
    registry.cut = 0
    package.fetch(tmp_path, registry=registry.address)
    assert [start for _, start in registry.asked] == [0, 100, 0]
    assert package.find_site([tmp_path]) is not None


def test_other_content_is_refused_and_leaves_nothing(registry, tmp_path):
    for path in registry.files:
        registry.files[path] = registry.files[path][:-1] + b"x"
    with pytest.raises(InputError, match="another file for @ohif/app 3.13.2"):
        package.fetch(tmp_path, registry=registry.address)
    assert list(tmp_path.iterdir()) == []


def test_registry_without_the_package_says_what_to_do(registry, tmp_path):
    registry.files.clear()
    with pytest.raises(InputError, match=r"404|Not Found.*NPM_CONFIG_REGISTRY.*npm pack @ohif/app@3.13.2.*--file"):
        package.fetch(tmp_path, registry=registry.address)


def test_files_need_no_registry_and_stay(packages, tmp_path, capsys):
    files = []
    for number, content in enumerate(packages.values()):
        files.append(tmp_path / f"{number}.tgz")
        files[-1].write_bytes(content)
    given = [text for file in files for text in ("--file", str(file))]
    assert main(["fetch", "--data-dir", str(tmp_path / "data"), "--registry", "http://127.0.0.1:9", *given]) == 0
    assert str(tmp_path / "data" / "ohif" / package.VERSION) in capsys.readouterr().out
    assert all(file.is_file() for file in files)
    files[0].write_bytes(b"something else")
    assert main(["fetch", "--data-dir", str(tmp_path / "more"), "--file", str(files[0])]) == 2
    assert "0.tgz: its sha512 is that of none that is wanted; legal: @ohif/app 3.13.2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "environment", "address"),
    [
        ("https://mirror.example/npm/", {"NPM_CONFIG_REGISTRY": "https://other.example"}, "https://mirror.example/npm"),
        (None, {"NPM_CONFIG_REGISTRY": "https://mirror.example/npm/"}, "https://mirror.example/npm"),
        (None, {"npm_config_registry": "http://mirror.example"}, "http://mirror.example"),
        (None, {}, "https://registry.npmjs.org"),
    ],
)
def test_registry_is_the_configured_one(monkeypatch, given, environment, address):
    monkeypatch.setattr(package, "_npm_setting", lambda: "")
    assert package.find_registry(given, environment) == address


def test_illegal_registry_is_named(monkeypatch):
    check = partial(package.find_registry, environment={"NPM_CONFIG_REGISTRY": "ftp://mirror"})
    with pytest.raises(InputError, match="registry 'ftp://mirror': legal"):
        check()
