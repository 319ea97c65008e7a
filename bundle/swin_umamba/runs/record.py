"""What a run is made of: the config with its values, versions, the state of the code, the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from swin_umamba import __version__
from swin_umamba.distributed import world_size

PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "numba", "triton", "mamba-ssm", "nibabel", "itk")
STEPS = ("imports", "initialize", "training", "run", "finalize")  # what is done, not what is set
MAY_DIFFER = (  # between the parts of a run: where, how long and how fast it is trained, not what is learnt
    *("_meta_", "bundle_root", "dataset_dir", "datalist", "model_dir", "runs_dir", "run_name", "run_folder"),
    *(
        "output_dir",
        "resume",
        "progress_file",
        "device_name",
        "device",
        "num_workers",
        "cache_workers",
        "cache_rate",
        "writes_files",
    ),
    *("checkpoint_interval", "checkpoints_kept", "evaluate_after_training", "save_execute_config", "description"),
    *("licence", "training_data", "model_spec", "training_run", "model_saver", "network", "average#network"),
    *(
        "train#trainer#max_epochs",
        "train#trainer#device",
        "train#dataset#data",
        "train#dataset#num_workers",
        "train#dataset#cache_rate",
    ),
    *("train#dataloader", "train#handlers", "validate#dataset", "validate#dataloader", "validate#handlers"),
)
GIT_SECONDS = 10  # longest wait for an answer of git
PATCH_LIMIT = 1_000_000  # characters of uncommitted changes that are kept


def running_config() -> ConfigParser | None:
    """Return the config whose steps are being run, the innermost if one runs another, or None.

    MONAI does not hand it to the objects that it makes, so it is looked up in the calling frames.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), ConfigParser):
            return frame.f_locals["self"]
        frame = frame.f_back
    return None


def resolved_config(parser: ConfigParser) -> dict[str, Any]:
    """Return a config as plain data in which every reference to plain data is replaced by its value.

    Components, and what is computed from them, stay as they are written.
    """
    config = parser.get()
    return {key: value if key in STEPS else _resolved(parser, key, value) for key, value in config.items()}


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], but: Iterable[str] = MAY_DIFFER
) -> dict[str, tuple[Any, Any]]:
    """Return the settings that two configs have both and that are not equal, by id.

    An argument of a component that differs just as a setting does, because it refers to it, is left out.

    Args:
        old: of `resolved_config`.
        new: another one.
        but: ids that are left out, with all that is below them; steps always are.
    """
    before, after = dict(_leaves(old)), dict(_leaves(new))
    free = (*STEPS, *but)
    changed = {
        key: (before[key], after[key])
        for key in before.keys() & after.keys()
        if before[key] != after[key] and not any(key == part or key.startswith(f"{part}#") for part in free)
    }
    settings = [pair for key, pair in changed.items() if not _of_component(new, key)]
    return {key: pair for key, pair in changed.items() if not (_of_component(new, key) and pair in settings)}


def facts() -> dict[str, Any]:
    """Return the command, versions, the state of the code and the machine, as plain data."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "command": shlex.join(sys.orig_argv),
        "folder": os.getcwd(),
        "versions": {"swin_umamba": __version__, "python": platform.python_version(), **_versions()},
        "git": git_state(),
        "host": platform.node(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "processes": world_size(),
        "process": os.getpid(),
    }


def git_state(file: str | os.PathLike = __file__) -> dict[str, Any] | None:
    """Return the commit and branch that a file belongs to and what differs from it, or None outside of a repository."""
    file = Path(file).resolve()
    commit = _git(file.parent, "rev-parse", "HEAD")
    if commit is None or _git(file.parent, "ls-files", "--error-unmatch", str(file)) is None:
        return None
    changed = (_git(file.parent, "status", "--porcelain") or "").splitlines()
    return {"commit": commit, "branch": _git(file.parent, "rev-parse", "--abbrev-ref", "HEAD"), "changed": changed}


def uncommitted_changes(file: str | os.PathLike = __file__) -> str:
    """Return the difference of a file's repository to its commit, "" if there is none or it is too long to keep."""
    file = Path(file).resolve()
    patch = _git(file.parent, "diff", "HEAD") if git_state(file) else None
    return patch + "\n" if patch and len(patch) < PATCH_LIMIT else ""


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _resolved(parser: ConfigParser, key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _resolved(parser, f"{key}::{name}", part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolved(parser, f"{key}::{index}", part) for index, part in enumerate(value)]
    if isinstance(value, str) and ReferenceResolver.match_refs_pattern(value) and _depends_on_plain_data(parser, value):
        return _plain(parser.get_parsed_content(key))
    return _plain(value)


def _depends_on_plain_data(parser: ConfigParser, value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" not in value and all(_depends_on_plain_data(parser, part) for part in value.values())
    if isinstance(value, (list, tuple)):
        return all(_depends_on_plain_data(parser, part) for part in value)
    if not isinstance(value, str):
        return True
    references = ReferenceResolver.match_refs_pattern(value)
    if value.startswith("$") and not references:
        return False
    try:
        return all(_depends_on_plain_data(parser, parser[reference]) for reference in references)
    except (KeyError, ValueError, IndexError):
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if value is None or type(value) in (bool, int, float, str) else str(value)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, (Mapping, list)) and value:
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, part in parts:
            yield from _leaves(part, f"{key}#{name}" if key else str(name))
    else:
        yield key, value


def _of_component(config: Mapping[str, Any], key: str) -> bool:
    part: Any = config
    for name in key.split("#"):
        if isinstance(part, Mapping) and "_target_" in part:
            return True
        part = part[int(name)] if isinstance(part, list) else part[name]
    return False
