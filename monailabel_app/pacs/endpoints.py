"""Requests that only a server with a PACS answers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, BackgroundTasks, HTTPException, Request
from fastapi.responses import FileResponse, Response
from monailabel.interfaces.utils.app import app_instance
from swin_umamba.errors import InputError

from monailabel_app.meanings import label_info
from monailabel_app.pacs.connection import PacsConnection
from monailabel_app.pacs.datastore import PacsDatastore
from monailabel_app.pacs.labels import write_label
from monailabel_app.pacs.proxy import DicomProxy

router = APIRouter()


@router.get("/pacs/", tags=["PACS"], summary="Whether the PACS answers, which labels wait for it, and what is copied")
def pacs_state() -> Any:
    """Answer with plain data; 404 on a folder of files."""
    _pacs()
    return app_instance().pacs_keeper.state()


@router.get("/proxy/dicom/{operation}/{path:path}", include_in_schema=False)
async def read(request: Request, operation: Literal["wado", "qido"], path: str) -> Response:
    """Answer with what the PACS answers to the same question, query and all."""
    return await _proxy(request).forward(request, path)


@router.post("/proxy/dicom/{operation}/{path:path}", include_in_schema=False)
async def store(request: Request, operation: Literal["wado", "qido", "stow"], path: str) -> Response:
    """Store instances in the PACS; viewers send to the root that they read from."""
    return await _proxy(request).forward(request, path)


def dicom_seg(background: BackgroundTasks, model: str, image: str, options: dict[str, Any]) -> FileResponse:
    """Segment a series and answer with a DICOM SEG, which is stored nowhere.

    Raises:
        InputError: if the images are no DICOM series.
    """
    instance = app_instance()
    pacs = instance.datastore()
    if not isinstance(pacs, PacsDatastore) or not image:
        raise InputError("output dicom_seg: legal: for a series of a PACS; image, json and all are for any image")
    result = instance.infer({**options, "model": model, "image": image})
    file = Path(result["file"])
    background.add_task(file.unlink, missing_ok=True)
    with tempfile.NamedTemporaryFile(prefix="segmentation_", suffix=".dcm", dir=file.parent, delete=False) as made:
        path = Path(made.name)
    background.add_task(path.unlink, missing_ok=True)
    series, spec = pacs.series_folder(image), instance.store.served(model).spec
    write_label(file, {"label_info": label_info(result["params"]["labels"])}, series, spec, path, "AUTOMATIC", [])
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
