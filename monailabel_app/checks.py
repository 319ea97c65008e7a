"""Checks of what a client sends, before MONAI Label's own code sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from fastapi import UploadFile
from swin_umamba.errors import InputError

from monailabel_app.datastore import SUFFIXES, TAGS, check_name

CLIENT = ("client_id",)
INFER_OPTIONS = (
    *("device", "mirror", "largest_component", "slices", "save_label", "label_tag"),
    *("result_extension", "result_dtype", "result_compress", "label_info", "send_to_pacs", *CLIENT),
)
# of MONAI Label's stock clients; without a meaning here, and dropped
IGNORED = frozenset(
    [
        *(
            "model_filename",
            "preload",
            "roi_size",
            "sw_batch_size",
            "sw_overlap",
            "logging",
            "highlight",
            "label",
            "name",
        ),
        *("background", "foreground", "label_names", "multi_gpu", "gpus", "max_workers", "val_split", "pretrained"),
        "restore_label_idx",  # of OHIF; ids are always the model's
        *("tracking", "tracking_uri", "tracking_experiment_name", "run_id", "dataset", "train_batch_size"),
        *("val_batch_size", "early_stop_patience", "enable_scheduler"),
    ]
)
DANGEROUS = frozenset(["model_filename", "run_id", "tracking_uri", "image", "model", "bundle_path"])
TRAIN_OPTIONS = ("device", "max_epochs", "iterations_per_epoch", "learning_rate", "promote", *CLIENT)
BATCH_OPTIONS = (
    "device",
    "mirror",
    "largest_component",
    "images",
    "max_batch_size",
    "again",
    "save_label",
    "label_tag",
    "send_to_pacs",
)


def parse_json(name: str, text: str | None) -> dict[str, Any]:
    """Return an object that came as JSON text; empty for none.

    Raises:
        InputError: for anything but an object.
    """
    try:
        value = json.loads(text) if text else {}
    except ValueError as error:
        raise InputError(f"{name}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name}: legal: a JSON object, not {str(text)[:40]!r}")
    return value


def check_options(options: Mapping[str, Any] | None, legal: Collection[str]) -> dict[str, Any]:
    """Return the options that mean something here.

    What MONAI Label's clients send by themselves is dropped, unless it names files or code with a value that is not
    empty; any other stranger is refused.

    Raises:
        InputError: naming the strangers and what is legal.
    """
    kept = {}
    for name, value in (options or {}).items():
        if name in legal:
            kept[name] = value
        elif name not in IGNORED or (name in DANGEROUS and not _harmless(value)):
            raise InputError(f"option {str(name)[:60]!r}: legal: {', '.join(sorted(legal))}")
    return kept


def check_model(model: str, app: Any) -> str:
    """Return the name of a model that the app serves.

    Raises:
        UnknownModel: for another.
    """
    if model not in app.names:
        raise app.store.unknown(model[:60])
    return model


def check_tag(tag: str) -> str:
    """Return a label's tag.

    Raises:
        InputError: for another than ours.
    """
    if tag not in TAGS:
        raise InputError(f"tag {tag[:60]!r}: legal: {', '.join(TAGS)}")
    return tag


def check_upload(what: str, file: UploadFile) -> UploadFile:
    """Return an uploaded file of a format that we read, called by its name without folders.

    MONAI Label's client sends the whole path on its own machine as the file's name.

    Raises:
        InputError: for another format, or a name that is no plain one.
    """
    name = re.split(r"[/\\]", file.filename or "")[-1]
    if not name.lower().endswith(SUFFIXES):
        raise InputError(f"{what}: file name {name[:128]!r}: legal: ending in {', '.join(SUFFIXES)}")
    check_name(f"{what}: file name", name)
    file.filename = id_of(name) + name[len(id_of(name)) :].lower()
    return file


def id_of(file: str) -> str:
    """Return what an image is called after its file: the name without our suffix, whatever dots it holds."""
    match = re.fullmatch(rf"(.*?)({'|'.join(map(re.escape, SUFFIXES))})", file, re.IGNORECASE | re.DOTALL)
    return match[1] if match else file


def _harmless(value: Any) -> bool:
    """MONAI Label's clients send back the lists of choices that a server offered, and empty text."""
    return value in ("", None, [], "model.pt", ["model.pt"])
