"""The versions of each model: the one that was installed, and those that were learnt from corrections.

    <data_dir>/models/<name>/versions/<version>/   model.pt, model.yaml, record.json
    <data_dir>/models/<name>/served.json           which version answers, and what answered before

A version is complete or absent: it is copied aside and renamed into place. `served.json` is replaced as a whole. So a
crash at any moment leaves the served model as it was, and nothing is ever removed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder, replace_file
from swin_umamba.models import SPEC_FILE, WEIGHTS_FILE, ModelSpec, file_sha256, read_spec
from swin_umamba.photographs import MODALITIES

logger = logging.getLogger(__name__)

RECORD_FILE, SERVED_FILE = "record.json", "served.json"
NO_PHOTOGRAPHS = "the app serves volumes; photographs are segmented by bundle/configs/inference.yaml"
HISTORY_KEPT = 1000  # changes of the served version that served.json remembers


class UnknownModel(InputError):
    """There is no model, or no version, of that name."""


@dataclasses.dataclass(frozen=True)
class Version:
    """One version of a model: its folder, what `model.yaml` says, and how it came about."""

    folder: Path
    spec: ModelSpec
    record: dict[str, Any]


class ModelStore:
    """Find models, and keep and choose among their versions.

    Args:
        folders: that hold installed models, each in a folder of its own, or are a model's folder themselves; the
            first of a name counts. They are only read.
        data_dir: gets the versions that training adds.
    """

    def __init__(self, folders: Sequence[str | os.PathLike], data_dir: str | os.PathLike) -> None:
        self.folders = [Path(folder) for folder in folders]
        self.base = make_writable_folder(Path(data_dir) / "models")
        self._told: set[str] = set()

    def installed(self) -> dict[str, Path]:
        """Return the folders of the installed models by name; what cannot be served is told in the log and left out."""
        return self._survey()[0]

    def left_out(self) -> dict[str, str]:
        """Return why a model is not served, by name, of those whose images no client of the app can show."""
        return self._survey()[1]

    def unknown(self, name: str | None) -> UnknownModel:
        """Return the error for a name that no served model has."""
        found, left_out = self._survey()
        why = left_out.get(str(name), f"unknown model {name!r}")
        return UnknownModel(f"{why}; there are {', '.join(sorted(found)) or 'none'}")

    def _survey(self) -> tuple[dict[str, Path], dict[str, str]]:
        """Return the folders of the models that can be served, and why others cannot, both by name."""
        found: dict[str, Path] = {}
        left_out: dict[str, str] = {}
        for place in self.folders:
            for folder in [place, *sorted(place.glob("*/"))]:
                if not (folder / SPEC_FILE).is_file():
                    continue
                try:
                    spec = read_cached(folder)
                    name = spec.name
                    if not (folder / WEIGHTS_FILE).is_file():
                        raise InputError(f"{folder} has no {WEIGHTS_FILE}")
                except InputError as error:
                    self._tell(f"model left out: {error}")
                    continue
                if spec.photographs:
                    left_out[name] = f"model {name!r} is for {MODALITIES[spec.modality]}, and {NO_PHOTOGRAPHS}"
                    self._tell(f"model left out: {left_out[name]}")
                    continue
                if name in found:
                    self._tell(f"model {name!r} of {folder} is hidden by that of {found[name]}")
                found.setdefault(name, folder)
        return found, left_out

    def served(self, name: str) -> Version:
        """Return the version that answers requests.

        Raises:
            UnknownModel: if there is no such model.
        """
        installed = self._installed(name)
        chosen = self._state(name).get("version")
        folder = self._folder(name, chosen) if chosen else installed
        return _read_version(folder if folder.is_dir() else installed)

    def versions(self, name: str) -> list[dict[str, Any]]:
        """Return what is known of each version, oldest first, with "served" true for one of them."""
        served = self.served(name).folder
        folders = [self._installed(name), *sorted(self._learnt(name), key=_order)]
        rows = []
        for folder in folders:
            version = _read_version(folder)
            rows.append({"version": version.spec.version, "served": folder == served, **version.record})
        return rows

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return which version was chosen when, by whom and why, oldest first."""
        self._installed(name)
        return list(self._state(name).get("history", []))

    def add(self, name: str, folder: str | os.PathLike, record: Mapping[str, Any]) -> Version:
        """Keep a trained model as the next version; it is not served by that.

        Args:
            name: of the model.
            folder: with `model.pt` and `model.yaml`, copied; its labels must be those of the served version.
            record: how it came about, plain data.

        Raises:
            UnknownModel: if there is no such model.
            InputError: if the folder is no complete model, or has other labels.
        """
        with self._lock(name):
            served = self.served(name)
            spec = read_spec(folder)
            if spec.labels != served.spec.labels:
                raise InputError(f"model {name!r}: labels {spec.labels} are not those served, {served.spec.labels}")
            major, minor, patch = max([_numbers(self.served_base(name)), *map(_order, self._learnt(name))])
            version = f"{major}.{minor}.{patch + 1}"
            target = self._folder(name, version)
            part = target.with_name(f".part-{version}")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            shutil.copyfile(Path(folder) / WEIGHTS_FILE, part / WEIGHTS_FILE)
            digest = file_sha256(part / WEIGHTS_FILE)
            plain = dataclasses.replace(spec, name=name, version=version, sha256=digest).as_dict()
            (part / SPEC_FILE).write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")
            note = {"created": _now(), **record}
            (part / RECORD_FILE).write_text(json.dumps(note, indent=1, ensure_ascii=False), encoding="utf-8")
            os.rename(part, target)
        return _read_version(target)

    def promote(self, name: str, version: str, *, by: str, why: str = "") -> Version:
        """Serve a version from now on.

        Args:
            name: of the model.
            version: one of `versions`.
            by: who decided.
            why: in words, for the history.

        Raises:
            UnknownModel: if there is no such model or version.
        """
        return self._choose(name, version, by=by, why=why)

    def rollback(self, name: str, *, by: str) -> Version:
        """Serve the version again that was served before the present one.

        Raises:
            UnknownModel: if there is no such model.
            InputError: if there was none before.
        """
        stack = [self.served_base(name)]
        for entry in self.history(name):
            if entry.get("rollback"):
                stack.pop()
            else:
                stack.append(entry["version"])
        if len(stack) < 2:
            raise InputError(f"model {name!r}: version {stack[0]} is the first, there is none to go back to")
        return self._choose(name, stack[-2], by=by, why=f"rollback from {stack[-1]}", rollback=True)

    def _choose(self, name: str, version: str, *, by: str, why: str, **more: Any) -> Version:
        with self._lock(name):
            installed = _read_version(self._installed(name))
            folder = installed.folder if version == installed.spec.version else self._folder(name, version)
            if not (folder / SPEC_FILE).is_file():
                legal = ", ".join(row["version"] for row in self.versions(name))
                raise UnknownModel(f"model {name!r} has no version {version!r}; there are {legal}")
            if folder == self.served(name).folder and not more:
                return _read_version(folder)  # it is served already
            state = self._state(name)
            entry = {"version": version, "time": _now(), "by": by, "why": why, **more}
            history = [*state.get("history", []), entry][-HISTORY_KEPT:]
            chosen = None if folder == installed.folder else version
            with replace_file(self.base / name / SERVED_FILE) as path:
                path.write_text(json.dumps({"version": chosen, "history": history}, indent=1), encoding="utf-8")
        logger.info("model %s: version %s is served now (%s: %s)", name, version, by, why or "no reason given")
        return self.served(name)

    def served_base(self, name: str) -> str:
        """Return the version of the installed model."""
        return _read_version(self._installed(name)).spec.version

    def _tell(self, message: str) -> None:
        """Log a message once; models are looked for at every request."""
        if message not in self._told:
            self._told.add(message)
            logger.warning("%s", message)

    def _installed(self, name: str) -> Path:
        installed = self.installed()
        if name not in installed:
            raise self.unknown(name)
        return installed[name]

    def _learnt(self, name: str) -> list[Path]:
        return [path.parent for path in (self.base / name / "versions").glob(f"[0-9]*/{SPEC_FILE}")]

    def _folder(self, name: str, version: str) -> Path:
        if not all(part.isdecimal() for part in version.split(".")) or version.count(".") != 2:
            raise UnknownModel(f"model {name!r}: version {version!r} is not three numbers such as 0.1.2")
        return self.base / name / "versions" / version

    def _state(self, name: str) -> dict[str, Any]:
        path = self.base / name / SERVED_FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _lock(self, name: str) -> FileLock:
        self._installed(name)
        return FileLock(make_writable_folder(self.base / name) / ".lock")


def read_cached(folder: Path) -> ModelSpec:
    """Return `read_spec` of a folder, from memory while its file has not changed: every status request asks for it."""
    status = (folder / SPEC_FILE).stat()
    return _spec_of(folder, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=256)
def _spec_of(folder: Path, changed: int, size: int) -> ModelSpec:
    return read_spec(folder)


def _read_version(folder: Path) -> Version:
    path = folder / RECORD_FILE
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"origin": "installed"}
    return Version(folder=folder, spec=read_cached(folder), record=record)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _order(folder: Path) -> tuple[int, ...]:
    return _numbers(folder.name)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
