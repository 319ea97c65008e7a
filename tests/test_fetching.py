"""Downloads: checked, atomic, and told in one line when they fail."""

from __future__ import annotations

import hashlib
import http.server
import threading
from pathlib import Path

import pytest
import torch
import yaml
from swin_umamba.errors import InputError
from swin_umamba.fetching import fetch, main


@pytest.fixture
def published(tmp_path):
    """A file like a published one."""
    torch.save({"model": {"weight": torch.ones(3)}}, tmp_path / "published.pth")
    return tmp_path / "published.pth"


@pytest.fixture
def catalogue(tmp_path, published):
    entry = {"url": published.as_uri(), "page": "https://example.org/page", "file": "tiny.pth", "sha256": None}
    good = hashlib.sha256(published.read_bytes()).hexdigest()
    entries = {
        "unverified": entry,
        "verified": {**entry, "sha256": good},
        "tampered": {**entry, "sha256": "0" * 64},
        "offline": {**entry, "url": (tmp_path / "nothing.pth").as_uri()},
        "page": {**entry, "url": Path(__file__).as_uri()},
    }
    (tmp_path / "checkpoints.yaml").write_text(yaml.safe_dump(entries))
    return tmp_path / "checkpoints.yaml"


@pytest.mark.parametrize(("name", "said"), [("unverified", "could not be verified"), ("verified", "as it should be")])
def test_fetch_puts_the_file_in_its_place(catalogue, published, capsys, name, said):
    path = fetch(name, catalogue)
    assert path == catalogue.parent / "pretrained" / "tiny.pth"
    assert path.read_bytes() == published.read_bytes()
    output = capsys.readouterr().out
    assert said in output
    assert hashlib.sha256(published.read_bytes()).hexdigest() in output
    main(["fetch", name, "--catalogue", str(catalogue)])
    assert "is there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tampered", f"tiny.pth has sha256 .*, legal is {'0' * 64}"),
        (
            "offline",
            r"cannot download file:.*nothing.pth: .*https://example.org/page\) and put it at .*pretrained/tiny.pth",
        ),
        ("page", "cannot be read"),
        ("vmamba", "unknown weights 'vmamba'; .* lists offline, page, tampered, unverified, verified"),
    ],
)
def test_fetch_leaves_nothing_behind_when_it_fails(catalogue, name, message):
    with pytest.raises(InputError, match=message):
        fetch(name, catalogue)
    folder = catalogue.parent / "pretrained"
    assert not folder.exists() or list(folder.iterdir()) == []


def test_the_catalogue_of_the_project_is_whole():
    entries = yaml.safe_load((Path(__file__).parents[1] / "models" / "checkpoints.yaml").read_text())
    assert "vmamba_tiny" in entries
    for entry in entries.values():
        assert entry["url"].startswith("https://")
        assert "/" not in entry["file"]
        assert entry["sha256"] is None or len(entry["sha256"]) == 64


class Broken(http.server.BaseHTTPRequestHandler):
    """Promises more bytes than it sends, or has no such page."""

    def do_GET(self):
        """Answer."""
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 10)

    def log_message(self, *_):
        """Keep quiet."""


@pytest.mark.parametrize(("page", "reason"), [("cut", "broke after 10 of 1000 bytes"), ("missing", "Not Found")])
def test_fetch_over_http_notices_what_is_missing(tmp_path, page, reason):
    server = http.server.HTTPServer(("127.0.0.1", 0), Broken)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        entry = {"url": f"http://127.0.0.1:{server.server_port}/{page}", "file": "tiny.pth", "sha256": None}
        (tmp_path / "checkpoints.yaml").write_text(yaml.safe_dump({"tiny": entry}))
        with pytest.raises(InputError, match=f"cannot download http.*{reason}.*with a browser"):
            fetch("tiny", tmp_path / "checkpoints.yaml")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert list((tmp_path / "pretrained").iterdir()) == []
