"""The pinned OHIF viewer: an npm package that holds a site built by OHIF's makers, of which we keep what we serve."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder

VERSION = "3.13.2"  # of the viewer


@dataclasses.dataclass(frozen=True)
class Package:
    """One npm package, and what of it is served.

    Args:
        name: with its scope.
        version: exact.
        sha512: of the file as published.
        parts: (folder of the package, folder of the site) of each.
    """

    name: str
    version: str
    sha512: str
    parts: tuple[tuple[str, str], ...]

    @property
    def path(self) -> str:
        """Where a registry has it."""
        return f"{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"


PACKAGES = (
    Package(
        "@ohif/app",
        VERSION,
        "5997719a9986eeba85816f5924b71b82bdd70ad2e2d4a0cd3e831a798e4f3dee"
        "a3e06e1f8c48e393271933a0ba664d85f3b04ac457e9abe8dde715d907d13c10",
        (("dist", ""), ("LICENSE", "LICENSE")),
    ),
    Package(  # interpolation between slices, which the viewer would otherwise take from the internet when it is wanted
        "@itk-wasm/morphological-contour-interpolation",
        "1.1.0",
        "9fa248c837120828e5a5f096f269d34f3c0f4c4f14d504fcee1366c80927c5da"
        "4647875f03322eb6e28daf082fafd52228405c8add17dc7371f5d9330f070873",
        (("dist/pipelines", "interpolation"), ("LICENSE", "interpolation/LICENSE")),
    ),
)
REGISTRY = "https://registry.npmjs.org"
REGISTRY_VARIABLES = ("NPM_CONFIG_REGISTRY", "npm_config_registry")
BASE = "/ohif/"  # where the site is served; it is built for "/"
LEFT_OUT = ("ort", "dicom-microscopy-viewer", "sw.js", "init-service-worker.js", "google.js", "app-config.js")
CDN = re.compile(rb"https://cdn\.jsdelivr\.net/npm/@itk-wasm/morphological-contour-interpolation@[^`]*`")
TIMEOUT = 60  # seconds without a byte
COMMAND = "python -m monailabel_app.ohif fetch"


def default_folder() -> Path:
    """Return where the site lies for all servers of a user."""
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "swin_umamba" / "ohif"


def find_site(folders: list[Path]) -> Path | None:
    """Return the first folder with the pinned site among `<folder>/<version>`, None if it was not fetched."""
    return next((folder / VERSION for folder in folders if (folder / VERSION / "index.html").is_file()), None)


def fetch(folder: Path, files: Sequence[Path] = (), registry: str | None = None) -> Path:
    """Put the pinned site into `<folder>/<version>`, unless it is there.

    Args:
        folder: gets the site, about 50 MB; it is complete or absent.
        files: packages that were downloaded before (`npm pack NAME@VERSION`); the others are downloaded.
        registry: address of an npm registry; None takes npm's own settings, see `find_registry`.

    Returns:
        The site's folder.

    Raises:
        InputError: if a download fails, a file is none of the pinned packages, or the folder cannot be written to.
    """
    target = folder / VERSION
    if (target / "index.html").is_file():
        return target
    make_writable_folder(folder)
    given = _recognise(files)
    missing = [package for package in PACKAGES if package not in given]
    address = find_registry(registry) if missing else ""
    downloaded = {package: _get(package, address, folder) for package in missing}
    part = Path(tempfile.mkdtemp(prefix=f".{VERSION}-", dir=folder))
    try:
        for package, file in {**given, **downloaded}.items():
            _unpack(package, file, part)
        shutil.rmtree(target, ignore_errors=True)
        part.chmod(0o755)
        os.rename(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for file in downloaded.values():
        file.unlink()
    return target


def _recognise(files: Sequence[Path]) -> dict[Package, Path]:
    """Return which package each file is.

    Raises:
        InputError: for a file that is none.
    """
    known = {package.sha512: package for package in PACKAGES}
    found = {}
    for file in files:
        if not file.is_file():
            raise InputError(f"package {str(file)!r}: no such file")
        package = known.get(_sha512(file))
        if package is None:
            legal = ", ".join(f"{item.name} {item.version}" for item in PACKAGES)
            raise InputError(f"package {file.name}: its sha512 is that of none that is wanted; legal: {legal}")
        found[package] = file
    return found


def _get(package: Package, address: str, folder: Path) -> Path:
    """Download a package and check it.

    Raises:
        InputError: if that fails, or it is another file than the one that was published.
    """
    path = _download(package, f"{address}/{package.path}", folder)
    if _sha512(path) != package.sha512:
        path.unlink()
        raise InputError(
            f"{address} gave another file for {package.name} {package.version} than the published one: its sha512 is "
            f"not {package.sha512[:16]}…"
        )
    return path


def find_registry(given: str | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """Return the address of the npm registry to ask: the given one, or as npm finds it.

    Raises:
        InputError: if it is no http(s) address.
    """
    address = given or next((environment[name] for name in REGISTRY_VARIABLES if environment.get(name)), "")
    address = address or _npm_setting() or REGISTRY
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"registry {address!r}: legal: an address such as {REGISTRY}")
    return address.rstrip("/")


def _npm_setting() -> str:
    """Return the registry of npm's configuration files, if there is npm."""
    npm = shutil.which("npm")
    if npm is None:
        return ""
    try:
        run = subprocess.run(
            [npm, "config", "get", "registry"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    address = run.stdout.strip()
    return address if address.startswith("http") else ""


def _download(package: Package, url: str, folder: Path) -> Path:
    """Download into `folder`; what an earlier attempt left is continued."""
    path = folder / f".{package.sha512[:16]}.tgz.part"
    there = path.stat().st_size if path.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            continues = answer.status == 206
            with open(path, "ab" if continues else "wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
                expected = answer.headers.get("Content-Length")
                got = file.tell() - (there if continues else 0)
        if expected is not None and int(expected) != got:
            raise OSError(f"the connection broke after {got} of {expected} bytes; the next attempt goes on from there")
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code == 416:  # it is all there
            return path
        raise InputError(
            f"cannot download {url}: {getattr(error, 'reason', error)}; set NPM_CONFIG_REGISTRY to a mirror, or get "
            f"the package elsewhere (npm pack {package.name}@{package.version}) and give it by --file"
        ) from error
    return path


def _sha512(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


def _unpack(package: Package, file: Path, folder: Path) -> None:
    """Write the files that are served, with addresses below `BASE`."""
    with tarfile.open(file, "r:gz") as archive:
        for member in archive:
            place = _place(package, PurePosixPath(member.name))
            content = archive.extractfile(member) if member.isreg() and place is not None else None
            if content is None or place is None:
                continue
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(move_to_base(path.name, content.read()))


def _place(package: Package, member: PurePosixPath) -> PurePosixPath | None:
    """Return where a file of a package goes in the site, None if it is left out."""
    below = PurePosixPath(*member.parts[1:])  # "package/…"
    for source, place in package.parts:
        if below.is_relative_to(source):
            target = PurePosixPath(place) / below.relative_to(source)
            kept = (
                target.parts[0] not in LEFT_OUT and target.suffix not in (".map", ".zst") and ".." not in target.parts
            )
            return target if kept else None
    return None


def move_to_base(name: str, content: bytes) -> bytes:
    """Return a file of the site with its addresses below `BASE` instead of "/".

    Args:
        name: of the file; its ending says where addresses are.
        content: of the file.
    """
    base = BASE.encode()
    if name.endswith(".js"):
        content = CDN.sub(base + b"interpolation`", content)
        return content.replace(b'__webpack_require__.p = "/";', b'__webpack_require__.p = "' + base + b'";')
    if name.endswith(".css"):
        return content.replace(b"url(/", b"url(" + base)
    if name == "index.html":
        content = re.sub(rb'<script[^>]*src="/init-service-worker.js"></script>', b"", content)
        return re.sub(rb'((?:href|src|content|PUBLIC_URL)=")/', rb"\1" + base, content)
    return content
