"""Requests that only a server with a PACS answers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, BackgroundTasks, HTTPException, Request
from fastapi.responses import FileResponse, Response
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException
from monailabel.interfaces.utils.app import app_instance
from swin_umamba.dicom.segmentation import write_segmentation
from swin_umamba.dicom.structures import write_structures
from swin_umamba.errors import InputError

from monailabel_app.checks import check_tag
from monailabel_app.meanings import label_info
from monailabel_app.pacs.connection import PacsConnection
from monailabel_app.pacs.datastore import PacsDatastore
from monailabel_app.pacs.labels import write_label
from monailabel_app.pacs.outbox import algorithm_type
from monailabel_app.pacs.proxy import DicomProxy
from monailabel_app.settings import TEMPORARY

router = APIRouter()
DicomOutput = Literal["dicom_seg", "rtstruct"]
WRITERS: dict[str, Any] = {"dicom_seg": write_segmentation, "rtstruct": write_structures}


@router.get("/pacs/", tags=["PACS"], summary="Whether the PACS answers, which labels wait for it, and what is copied")
def pacs_state() -> Any:
    """Answer with plain data, and look again for the next who asks; 404 on a folder of files."""
    _pacs().wake.set()
    return app_instance().pacs_keeper.state()


@router.get("/proxy/dicom/{operation}/{path:path}", include_in_schema=False)
async def read(request: Request, operation: Literal["wado", "qido"], path: str) -> Response:
    """Answer with what the PACS answers to the same question, query and all."""
    return await _proxy(request).forward(request, path)


@router.post("/proxy/dicom/{operation}/{path:path}", include_in_schema=False)
async def store(request: Request, operation: Literal["wado", "qido", "stow"], path: str) -> Response:
    """Store instances in the PACS; viewers send to the root that they read from."""
    return await _proxy(request).forward(request, path)


@router.get("/pacs/labels/{image}", tags=["PACS"], summary="A stored label as DICOM SEG or RTSTRUCT")
def label_as_dicom(
    background: BackgroundTasks, image: str, tag: str = "final", output: DicomOutput = "dicom_seg"
) -> FileResponse:
    """Answer with a label of the data store, which is stored nowhere else by that."""
    store, instance = _pacs(), app_instance()
    if not store.knows(image):
        raise ImageNotFoundException(f"Image {image[:128]!r} not found")
    file = store.get_label_uri(image, check_tag(tag))
    if not file:
        raise LabelNotFoundException(f"Image {image!r} has no label with tag {tag!r}")
    info = store.label_meaning(image, tag)
    model = info.get("model") if info.get("model") in instance.names else next(iter(instance.names), None)
    if model is None:
        raise InputError("no model is installed, so segments have no names")
    return _as_dicom(background, output, file, info, image, str(model), algorithm_type(tag, info))


def dicom_result(
    background: BackgroundTasks, output: DicomOutput, model: str, image: str, options: dict[str, Any]
) -> FileResponse:
    """Segment a series and answer with a DICOM SEG or RTSTRUCT, which is stored nowhere.

    Raises:
        InputError: if the images are no DICOM series.
    """
    instance = app_instance()
    if not isinstance(instance.datastore(), PacsDatastore) or not image:
        raise InputError(f"output {output}: legal: for a series of a PACS; image, json and all are for any image")
    result = instance.infer({**options, "model": model, "image": image})
    background.add_task(Path(result["file"]).unlink, missing_ok=True)
    info = {"label_info": label_info(result["params"]["labels"])}
    return _as_dicom(background, output, result["file"], info, image, model, "AUTOMATIC")


def _as_dicom(
    background: BackgroundTasks, output: DicomOutput, file: str, info: dict[str, Any], image: str, model: str, kind: str
) -> FileResponse:
    """Answer with a label map as DICOM; the file is removed when it is sent."""
    instance = app_instance()
    folder = instance.settings.data_dir / TEMPORARY
    with tempfile.NamedTemporaryFile(prefix="segmentation_", suffix=".dcm", dir=folder, delete=False) as made:
        path = Path(made.name)
    try:
        spec = instance.store.served(model).spec
        write_label(file, info, _pacs().series_folder(image), spec, path, kind, write=WRITERS[output])
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    background.add_task(path.unlink, missing_ok=True)
    return FileResponse(path, media_type="application/dicom", filename=f"{image}.dcm")


def _pacs() -> PacsDatastore:
    found = app_instance().datastore()
    if not isinstance(found, PacsDatastore):
        raise HTTPException(404, "this server's images are files of a folder, it has no DICOMweb")
    return found


def _proxy(request: Request) -> DicomProxy:
    """Return the proxy of this server's event loop."""
    url = _pacs().client.url
    state = request.app.state
    if getattr(state, "dicom_proxy", None) is None:
        state.dicom_proxy = DicomProxy(PacsConnection.from_environment(url))
    return state.dicom_proxy
