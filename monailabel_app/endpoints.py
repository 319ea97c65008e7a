"""The server's own requests: what MONAI Label offers unguarded or not at all."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from fastapi import APIRouter, BackgroundTasks, Body, File, Form, HTTPException, Query, UploadFile
from monailabel.endpoints import datastore, infer, session
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask
from swin_umamba.errors import InputError

from monailabel_app import processes, train
from monailabel_app.checks import (
    BATCH_OPTIONS,
    INFER_OPTIONS,
    TRAIN_OPTIONS,
    check_model,
    check_options,
    check_tag,
    check_upload,
    id_of,
    parse_json,
)
from monailabel_app.datastore import check_name, read_volume
from monailabel_app.pacs.endpoints import dicom_result
from monailabel_app.worklist import progress_of

router = APIRouter()
SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LONGEST_SESSION = 24 * 60 * 60  # seconds
Options = dict[str, Any] | None


@router.post("/infer/{model}", tags=["Infer"], summary="Segment an image of the data store, or an uploaded one")
def segment(
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: str = Form("{}"),
    file: UploadFile | None = File(None),
    label: UploadFile | None = File(None),
    output: Literal["image", "json", "all", "dicom_seg", "rtstruct"] | None = None,
) -> Any:
    """Answer with the label map, with data about it, or both, as MONAI Label does."""
    check_model(model, app_instance())
    options = check_options(parse_json("params", params), INFER_OPTIONS)
    if options.get("label_tag"):
        check_tag(options["label_tag"])
    for what, upload in (("file", file), ("label", label)):
        if upload is not None:
            check_upload(what, upload)
    if session_id:
        find_session(session_id)
    elif image and file is None:  # beside an upload 3D Slicer sends the name of the volume on its own machine
        _known_image(image)
    elif file is None:
        raise InputError("image: legal: the id of an image, an uploaded file, or a session_id")
    if output in ("dicom_seg", "rtstruct"):
        return dicom_result(background_tasks, output, model, image, options)
    text = json.dumps(options)
    with _cleaned_up(background_tasks):
        kind = infer.ResultType(output) if output else None
        return infer.run_inference(background_tasks, model, image, session_id, text, file, label, kind)


@router.post("/activelearning/{strategy}", tags=["ActiveLearning"], summary="Next image to work on")
def next_sample(strategy: str, params: Options = None) -> Any:
    """Answer with the image that the strategy chose and leased to "client_id", or {} when none is left."""
    known = app_instance()._strategies
    if strategy not in known:
        raise HTTPException(404, f"unknown strategy {strategy[:60]!r}; there are {', '.join(sorted(known))}")
    store = app_instance().datastore()
    store.ask_for_news()
    chosen = known[strategy]({"client_id": str((params or {}).get("client_id") or "")}, store)
    if chosen is None:
        return {}
    return {**chosen, **store.sample_info(chosen["id"])}


@router.put("/session/", tags=["Session"], summary="Upload an image for a while, without keeping it")
def create_session(
    background_tasks: BackgroundTasks,
    files: list[UploadFile] = File(...),
    expiry: int = Query(0, ge=0, le=LONGEST_SESSION),
    uncompress: bool = False,
) -> Any:
    """Answer with the id of a session; the files make one image."""
    if uncompress:
        raise InputError("uncompress true: legal: false; send the files themselves")
    for file in files:
        file.filename = check_name("files: name", re.split(r"[/\\]", file.filename or "")[-1])
    answer = session.create_session(background_tasks, False, expiry, files)
    try:
        read_volume(answer["session_info"]["image"], "session")
    except InputError:
        app_instance().sessions().remove_session(answer["session_id"])
        raise
    return answer


@router.put("/datastore/", tags=["Datastore"], include_in_schema=False)
@router.put("/datastore/image", tags=["Datastore"], summary="Upload an image")
def add_image(
    background_tasks: BackgroundTasks,
    image: str | None = None,
    params: str = Form("{}"),
    file: UploadFile = File(...),
) -> Any:
    """Add an image that can be read under a new name."""
    check_upload("file", file)
    image = check_name("image", image or id_of(file.filename or ""))
    info = check_options(parse_json("params", params), ("client_id", "user", "PatientID", "name"))
    with _cleaned_up(background_tasks):
        return datastore.add_image(background_tasks, image, json.dumps(info), file)


@router.put("/datastore/label", tags=["Datastore"], summary="Submit a label")
def submit_label(
    background_tasks: BackgroundTasks,
    image: str,
    params: str = Form("{}"),
    tag: str = DefaultLabelTag.FINAL.value,
    label: UploadFile = File(...),
) -> Any:
    """Keep a label map; it is on the disk when the answer comes."""
    _known_image(image)
    check_tag(tag)
    check_upload("label", label)
    info = parse_json("params", params)
    with _cleaned_up(background_tasks):
        result = datastore.save_label(background_tasks, image, params, tag, label)
    if tag == DefaultLabelTag.FINAL.value:
        app_instance().worklist.corrected(image, str(info.get("client_id") or "unknown"))
    return result


@router.get("/train/", tags=["Train"], summary="The present, or the last, training")
def training_status(all: bool = False, check_if_running: bool = False) -> Any:
    """Answer with the task; 404 if there is none, or none that runs and only such was asked for."""
    return processes.status("train", all, check_if_running)


@router.post("/train/{model}", tags=["Train"], summary="Learn from the corrections")
def start_training(model: str, params: Options = None, run_sync: bool = False, enqueue: bool = False) -> Any:
    """Start a training in a process of its own; 429 while one runs."""
    check_model(model, app_instance())
    _refuse_sync(run_sync)
    return _start_training(model, params)


@router.post("/train/", tags=["Train"], summary="Learn from the corrections, if there is one model")
def start_only_training(params: Options = None, run_sync: bool = False) -> Any:
    """Start the training of the only model; OHIF's "Update Model" asks for this."""
    names = sorted(app_instance()._trainers)
    if len(names) != 1:
        raise InputError(f"train: say which model; there are {', '.join(names) or 'none'}")
    options = (params or {}).get(names[0]) or {
        key: value for key, value in (params or {}).items() if key in TRAIN_OPTIONS
    }
    _refuse_sync(run_sync)
    return {names[0]: {"result": _start_training(names[0], options), "detail": None}}


@router.delete("/train/", tags=["Train"], summary="Stop the training")
def stop_training() -> Any:
    """Stop the process; what is served stays as it is."""
    return AsyncTask.stop("train")


@router.get("/batch/infer", tags=["Infer"], summary="The present, or the last, batch")
def batch_status(all: bool = False, check_if_running: bool = False) -> Any:
    """Answer with the task and, under "progress", how far it is."""
    status = processes.status("batch_infer", all, check_if_running)
    return status if all else {**status, "progress": app_instance()._batch_infer.progress()}


@router.post("/batch/infer/{model}", tags=["Infer"], summary="Segment many images")
def start_batch(model: str, images: str = Query("unlabeled"), params: Options = None, run_sync: bool = False) -> Any:
    """Start a batch in a process of its own, one image after the other; 429 while one runs."""
    check_model(model, app_instance())
    options = {"images": images, **check_options(params, BATCH_OPTIONS)}
    app_instance()._batch_infer.images(options, app_instance().datastore())
    _refuse_sync(run_sync)
    return processes.start("batch_infer", {"model": model, **options})


@router.delete("/batch/infer", tags=["Infer"], summary="Stop the batch")
def stop_batch() -> Any:
    """Stop the process; what is done stays, and the next batch goes on from there."""
    return AsyncTask.stop("batch_infer")


@router.get("/versions/{model}", tags=["Versions"], summary="Versions of a model")
def versions(model: str) -> Any:
    """Answer with all versions, and which was served when."""
    store = app_instance().store
    return {"versions": store.versions(model), "history": store.history(model)}


@router.post("/versions/{model}/promote", tags=["Versions"], summary="Serve a version")
def promote(model: str, version: str, by: str = Body("unknown", embed=True)) -> Any:
    """Serve a version from the next request on."""
    return {"served": app_instance().store.promote(model, version, by=by, why="by request").spec.version}


@router.post("/versions/{model}/rollback", tags=["Versions"], summary="Serve the version before")
def rollback(model: str, by: str = Body("unknown", embed=True)) -> Any:
    """Serve the version again that was served before the present one."""
    return {"served": app_instance().store.rollback(model, by=by).spec.version}


@router.get("/worklist/", tags=["Worklist"], summary="State of every image, and progress by person")
def worklist() -> Any:
    """Answer with {"images": {image: state}, "progress"}."""
    states = _states()
    return {"images": states, "progress": progress_of(states)}


@router.post("/worklist/{image}/skip", tags=["Worklist"], summary="Do not offer an image to someone again")
def skip(image: str, client_id: str = Body(..., embed=True)) -> Any:
    """Give an image back."""
    _known_image(image)
    app_instance().worklist.skip(image, client_id)
    return {"image": image}


@router.post("/worklist/{image}/review", tags=["Worklist"], summary="Approve an image's label")
def review(image: str, client_id: str = Body(..., embed=True)) -> Any:
    """Note who approved the final label; a later correction takes that back."""
    _known_image(image)
    if not app_instance().datastore().get_label_uri(image, DefaultLabelTag.FINAL.value):
        raise InputError(f"review: image {image!r} has no final label yet")
    app_instance().worklist.reviewed(image, client_id)
    app_instance().history.tell("review", image=image, by=client_id)
    return {"image": image}


def _start_training(model: str, params: Options) -> Any:
    """Start a training whose options were looked at before a process is started for them."""
    options = check_options(params, TRAIN_OPTIONS)
    train.check_options(options)
    started = processes.start("train", {"model": model, **options})
    app_instance()._trainers[model].forget_progress()
    return started


@contextlib.contextmanager
def _cleaned_up(background_tasks: BackgroundTasks) -> Iterator[None]:
    """Remove the copy of an upload also when it is refused: the tasks that do that come after a good answer only."""
    try:
        yield
    except Exception:
        for task in background_tasks.tasks:
            task.func(*task.args, **task.kwargs)
        raise


def find_session(session_id: str) -> Any:
    """Return a session; its id is looked at before a path is made of it.

    Raises:
        HTTPException: 404 if there is none.
    """
    found = app_instance().sessions().get_session(session_id) if SESSION_ID.fullmatch(session_id) else None
    if found is None:
        raise HTTPException(404, f"Session {session_id[:60]!r} not found")
    return found


def _refuse_sync(run_sync: bool) -> None:
    if run_sync:
        raise InputError("run_sync true: legal: false; it would run inside the server. Poll the status instead")


def _known_image(image: str) -> None:
    if not app_instance().datastore().knows(image):
        raise ImageNotFoundException(f"Image {image[:128]!r} not found")


def _states() -> dict[str, dict[str, Any]]:
    store = app_instance().datastore()
    store.ask_for_news()
    labels = store.labels()
    final = [image for image, tags in labels.items() if "final" in tags]
    automatic = [image for image, tags in labels.items() if "original" in tags]
    return app_instance().worklist.states(final, automatic, labels)
