"""What the viewer's panel asks: the label of a series slice by slice, a new one, and storing what a person made of it.

Labels come and go as `monailabel_app.slices` has them. What is stored is the final label of the data store and, from
there, a DICOM SEG in the PACS.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import APIRouter, Body, HTTPException
from monai.data import MetaTensor
from monailabel.interfaces.exception import LabelNotFoundException
from monailabel.interfaces.utils.app import app_instance
from swin_umamba.data.labels import organ_name
from swin_umamba.errors import InputError
from swin_umamba.label_maps import save_label_map
from swin_umamba.models import ModelSpec, file_sha256

from monailabel_app.checks import check_model, check_options
from monailabel_app.datastore import read_volume
from monailabel_app.endpoints import _known_image, _states
from monailabel_app.history import DIGITS
from monailabel_app.meanings import label_info, label_values, map_by_name
from monailabel_app.overview import about_model, about_training, segments_of
from monailabel_app.pacs.datastore import PacsDatastore
from monailabel_app.pacs.labels import all_segments
from monailabel_app.slices import SliceGrid, decode_slices, encode_slices
from monailabel_app.stopping import stop, stoppable
from monailabel_app.worklist import progress_of

router = APIRouter(prefix="/viewer", tags=["Viewer"])
SEGMENT_OPTIONS = ("device", "mirror", "largest_component")
OWN_OPTIONS = ("slices", "client_id", "run")
LONGEST_NAME = 64  # of a segment, as in DICOM


@router.get("/", summary="What the panel shows of the server: models, strategies, progress, training")
def overview() -> Any:
    """Answer with all that does not depend on an image."""
    instance = app_instance()
    return {
        "version": instance.version,
        "note": instance.info()["note"],
        "models": [about_model(name, instance.store) for name in instance.names],
        "strategies": {name: strategy.description for name, strategy in instance._strategies.items()},
        "progress": progress_of(_states()),
        "training": about_training(instance._trainers),
    }


@router.get("/images/{image}", summary="State of an image, and who made its label")
def image_state(image: str) -> Any:
    """Answer with "study", "state" as in the work list, and "label": a person's if there is one, or else a model's."""
    store = _store(image)
    tag = _tag_of(store, image)
    return {
        "image": image,
        "study": store.get_image_info(image).get("StudyInstanceUID"),
        **_states()[image],
        "label": _about(store, image, tag) if tag else None,
    }


@router.get("/images/{image}/label", summary="The label of an image, slice by slice")
def label(image: str) -> Any:
    """Answer with the label of a person if there is one, or else of a model."""
    store = _store(image)
    tag = _tag_of(store, image)
    if tag is None:
        raise LabelNotFoundException(f"Image {image!r} has no label yet")
    info = store.label_meaning(image, tag)
    spec = _spec(info.get("model"))
    volume = read_volume(store.get_label_uri(image, tag), "label")
    names = label_values(info) or {number: organ for organ, number in spec.labels.items()}
    full = all_segments(spec, list(names.values()))
    mapped, _ = map_by_name(volume, names, full.labels)
    grid = SliceGrid.of(store.series_folder(image))
    return {**_about(store, image, tag), **_answer(image, grid, mapped, full)}


@router.post("/images/{image}/segment", summary="Segment an image, or some of its slices")
def segment(image: str, model: str | None = None, request: dict[str, Any] = Body(default_factory=dict)) -> Any:
    """Answer with the model's label, of the slices that were asked for; only that of the whole image is kept.

    The request holds "slices", {"uid", "frame"} of each, or none for the whole image, the options of inference, and
    "run", a name by which it can be stopped; the answer of one that was stopped is 409, and nothing of it is kept.
    """
    instance, store = app_instance(), _store(image)
    name = check_model(model or _spec(None).name, instance)
    options = check_options({k: v for k, v in request.items() if k not in OWN_OPTIONS}, SEGMENT_OPTIONS)
    grid = SliceGrid.of(store.series_folder(image))
    chosen = None if request.get("slices") is None else _positions(request["slices"], grid)
    part = {} if chosen is None else {"slices": f"{min(chosen)}-{max(chosen)}", "label": None}
    with stoppable(request.get("run")):
        result = instance.infer({**options, **part, "model": name, "image": image, "save_label": chosen is None})
    try:
        volume = read_volume(result["file"], "label")
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(result["file"]).unlink()
    about = {key: result["params"][key] for key in ("model", "model_version", "latencies")}
    about |= {"tag": "original", "time": time.time(), **_doubts(result["params"])}
    return {**about, **_answer(image, grid, volume, _spec(name), chosen)}


@router.delete("/runs/{run}", summary="Stop a segmentation")
def stop_segmenting(run: str) -> Any:
    """End it before the network's next step, or before its first one if it waits for others."""
    if not stop(run):
        raise HTTPException(404, f"no segmentation {run[:64]!r} runs")
    return {"run": run}


@router.put("/images/{image}/label", summary="Store what a person made of a label")
def store_label(image: str, request: dict[str, Any] = Body(...)) -> Any:
    """Keep a final label, and send it to the PACS; it is on the disk when the answer comes.

    The request holds "client_id" (who), "segments" [{"id", "name"}], "slices" (all), "model" and "model_version" that
    it began with, and "base": the digest of the final label that it replaces, null for none. With another one there,
    the answer is 409; without "base" it is replaced whatever it is.
    """
    instance, store = app_instance(), _store(image)
    who = request.get("client_id")
    if not isinstance(who, str) or not who.strip() or len(who) > LONGEST_NAME or not who.isprintable():
        raise InputError(f"client_id {str(who)[:70]!r}: legal: your name, 1 to {LONGEST_NAME} characters")
    names = _names(request.get("segments"))
    grid = SliceGrid.of(store.series_folder(image))
    voxels = decode_slices(request.get("slices"), grid, names)
    if request.get("model") is not None:
        check_model(str(request["model"]), instance)
    _refuse_outdated(store, image, request)
    spec = _spec(request.get("model"))
    drawn = [name for number, name in names.items() if np.any(voxels == number)]
    labels = all_segments(spec, drawn).labels
    reference = read_volume(store.get_image_uri(image), "image")
    mapped, _ = map_by_name(MetaTensor(torch.from_numpy(voxels[None]), meta=reference.meta), names, labels)
    info = {
        "client_id": who.strip(),
        "label_info": label_info(labels),
        "model": spec.name,
        "model_version": str(request.get("model_version") or spec.version)[:64],
    }
    path = instance.settings.data_dir / "tmp" / f"{image}.{time.time_ns()}.nii.gz"
    try:
        save_label_map(path, mapped)
        store.save_label(image, str(path), "final", info)
    finally:
        path.unlink(missing_ok=True)
    instance.worklist.corrected(image, who.strip())
    return _about(store, image, "final")


def _store(image: str) -> PacsDatastore:
    """Return the data store of the PACS, which knows the image.

    Raises:
        HTTPException: 404 if the images are files, which the viewer cannot show.
    """
    store = app_instance().datastore()
    if not isinstance(store, PacsDatastore):
        raise HTTPException(404, "this server's images are files of a folder; the viewer shows DICOM series of a PACS")
    _known_image(image)
    return store


def _tag_of(store: PacsDatastore, image: str) -> str | None:
    return next((tag for tag in ("final", "original") if store.get_label_uri(image, tag)), None)


def _about(store: PacsDatastore, image: str, tag: str) -> dict[str, Any]:
    """Return who or what made a label and when, what makes an automatic one doubtful, and whether the PACS has it."""
    info = {**store.get_label_info(image, tag), **store.label_meaning(image, tag)}
    return {
        "tag": tag,
        "by": info.get("client_id") if tag == "final" else None,
        "time": store.get_label_info(image, tag).get("ts"),
        "model": info.get("model"),
        "model_version": info.get("model_version"),
        "pacs": store.sending(image, tag),
        "digest": _digest(store, image, tag),
        **(_doubts(info.get("params") or {}) if tag == "original" else {}),
    }


def _doubts(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the warnings of a result, and its confidence {organ: 0 to 1}; one of an older server may lack them."""
    return {"warnings": result.get("warnings", []), "confidence": result.get("confidence", {}).get("organs", {})}


def _digest(store: PacsDatastore, image: str, tag: str) -> str:
    return file_sha256(store.get_label_uri(image, tag))[:DIGITS]


def _refuse_outdated(store: PacsDatastore, image: str, request: Mapping[str, Any]) -> None:
    if "base" not in request:
        return
    there = _digest(store, image, "final") if store.get_label_uri(image, "final") else None
    if request["base"] != there:
        about = _about(store, image, "final") if there else {"by": None}
        what = f"{about['by']} has stored a label of this image" if there else "the label was removed"
        raise HTTPException(409, f"{what} since you opened it; store again to replace it, or load it")


def _spec(model: str | None) -> ModelSpec:
    """Return the description of a model, or of the first one if there is no such model any more."""
    instance = app_instance()
    if not instance.names:
        raise InputError("no model is installed, so segments have no names")
    return instance.store.served(model if model in instance.names else instance.names[0]).spec


def _answer(
    image: str, grid: SliceGrid, volume: MetaTensor, spec: ModelSpec, chosen: Sequence[int] | None = None
) -> dict[str, Any]:
    voxels = volume.numpy()[0].astype(np.uint8)  # (1, column, row, slice) -> (column, row, slice)
    if voxels.shape != grid.shape:
        raise InputError(f"label: its shape {voxels.shape} is not the series', {grid.shape}")
    return {
        "image": image,
        "rows": grid.rows,
        "columns": grid.columns,
        "voxel_ml": grid.voxel_ml,
        "segments": segments_of(spec),
        "slices": encode_slices(voxels, grid, chosen),
    }


def _positions(entries: Any, grid: SliceGrid) -> list[int]:
    if not isinstance(entries, list) or not entries:
        raise InputError(f"slices: legal: null for all, or a list of {{uid, frame}}, not {str(entries)[:40]!r}")
    return sorted({grid.position(entry) for entry in entries})


def _names(segments: Any) -> dict[int, str]:
    """Return {id: name} of a client's segments.

    Raises:
        InputError: if an id or a name is missing, illegal or there twice.
    """
    try:
        pairs = [(entry["id"], entry["name"].strip()) for entry in segments]
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"segments: legal: a list of {{id, name}}, not {str(segments)[:60]!r}") from error
    for number, name in pairs:
        if type(number) is not int or not 1 <= number <= 255:
            raise InputError(f"segments: id {repr(number)[:20]}: legal: a whole number from 1 to 255")
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise InputError(f"segments: name {name[:70]!r}: legal: 1 to {LONGEST_NAME} printable characters")
    for what, values in (("id", [pair[0] for pair in pairs]), ("name", [organ_name(pair[1]) for pair in pairs])):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise InputError(f"segments: {what} {twice[0]!r} is there twice; legal: every {what} once")
    return dict(pairs)
