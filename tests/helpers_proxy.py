"""TLS as a hospital has it: a certificate of its own, and the documented nginx in front of a server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from helpers_bundle import ROOT
from helpers_pacs import need
from helpers_server import free_port

SITE = ROOT / "monailabel_app" / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""
PLACES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
AROUND = """daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
{user}
events {{}}
http {{
    access_log {folder}/access.log;
{places}
    include {folder}/site.conf;
}}
"""


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate for 127.0.0.1 that signs itself, and a file that holds its key too."""
    need("openssl", shutil.which("openssl") is not None)
    certificate, both = folder / "ca.pem", folder / "both.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hospital"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(both), "-out", str(certificate)]
    subprocess.run(["openssl", "req", *options, *names], check=True, capture_output=True)
    both.write_bytes(both.read_bytes() + certificate.read_bytes())
    return certificate, both


@contextmanager
def nginx_in_front_of(server: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """Run nginx with the site of the repository; only ports, name and files of the certificate are changed.

    Args:
        server: port of it.
        folder: for nginx's own files.

    Yields:
        Its address, and the certificate of the authority that vouches for it.
    """
    need("nginx (Debian: nginx)", bool(NGINX))
    folder.mkdir()
    certificate, key = make_certificate(folder)
    port = free_port()
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "server_name segmentation.hospital.example": "server_name 127.0.0.1",
        "/etc/nginx/tls/segmentation.pem": str(certificate),
        "/etc/nginx/tls/segmentation.key": str(key),
        "proxy_pass http://127.0.0.1:8000": f"proxy_pass http://127.0.0.1:{server}",
    }
    site = SITE.read_text()
    for old, new in changes.items():
        assert len(re.findall(re.escape(old), site)) == 1, old
        site = site.replace(old, new)
    (folder / "site.conf").write_text(site)
    places = "\n".join(f"    {name}_temp_path {folder}/{name};" for name in PLACES)
    user = "user root;" if os.geteuid() == 0 else ""  # whose the test's folder is
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, places=places, user=user))
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen([NGINX, "-c", str(folder / "nginx.conf")], stdout=said, stderr=said)
    try:
        _wait(process, f"https://127.0.0.1:{port}", certificate)
        yield f"https://127.0.0.1:{port}", certificate
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(process: subprocess.Popen, url: str, certificate: Path) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            assert requests.get(f"{url}/healthz", verify=str(certificate), timeout=30).status_code == 200
            return
        except requests.ConnectionError:
            assert process.poll() is None, "nginx has ended"
            assert time.monotonic() < end
            time.sleep(0.1)
