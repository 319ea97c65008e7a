"""The PACS as viewers in the browser see it: through this server, which has the credentials and the rules."""

from __future__ import annotations

import re
import uuid
from collections import OrderedDict
from urllib.parse import quote

import anyio.to_thread
import httpx
import numpy as np
from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from pydicom.dataset import Dataset
from starlette.background import BackgroundTask
from swin_umamba.errors import InputError

from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.connection import PacsConnection, PacsError

ASKED = ("accept", "accept-encoding", "accept-language", "content-type", "if-none-match", "if-modified-since", "range")
ANSWERED = ("content-type", "content-encoding", "content-length", "content-range", "etag", "last-modified", "warning")
RESOURCES = ("studies", "series", "instances", "bulk")
COMMA = re.compile("%2C", re.IGNORECASE)  # between attributes; Orthanc 1.10 takes an encoded one as part of a name
STORE = re.compile(r"studies(/[0-9.]+)?")
FRAMES = re.compile(r"studies/([0-9.]+)/series/([0-9.]+)/instances/([0-9.]+)/frames/([0-9]+(?:,[0-9]+)*)")
DROPPED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)  # a connection, before an answer
INSTANCES_KEPT = 4  # whose frames were cut here; a viewer asks for one after the other


class DicomProxy:
    """Passes DICOMweb requests on: query, headers and body, and back what the PACS answers, piece by piece.

    Args:
        connection: how the PACS is reached.
    """

    def __init__(self, connection: PacsConnection) -> None:
        self.connection = connection
        self._http = connection.async_client()
        self._posting = connection.async_client(reuses=False)  # a body that passes through cannot be sent again
        self._frames: OrderedDict[str, list[bytes]] = OrderedDict()

    async def forward(self, request: Request, path: str) -> Response:
        """Answer with what the PACS answers.

        Args:
            request: of a viewer.
            path: below the DICOMweb root.

        Raises:
            InputError: for a path that is none of DICOMweb, or a body that is not to be stored.
            PacsError: if the PACS does not answer.
        """
        _check(request, path)
        answer = await self._send(request, path)
        frames = FRAMES.fullmatch(path)
        if answer.status_code == 400 and frames is not None and request.method == "GET":
            refusal = await answer.aread()  # which frees its connection, whatever comes of the frames
            cut = await self._cut_frames(*frames.groups())
            return cut or Response(refusal, answer.status_code, media_type=answer.headers.get("content-type"))
        headers = {name: answer.headers[name] for name in ANSWERED if name in answer.headers}
        close = BackgroundTask(answer.aclose)
        return StreamingResponse(answer.aiter_raw(), answer.status_code, headers, background=close)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        await self._posting.aclose()

    async def _send(self, request: Request, path: str) -> httpx.Response:
        query = COMMA.sub(",", request.url.query)
        url = f"{self.connection.url}/{quote(path, safe='/,:')}" + (f"?{query}" if query else "")
        headers = {"accept": "*/*", "accept-encoding": "identity"}
        headers |= {name: request.headers[name] for name in ASKED if name in request.headers}
        try:
            if request.method == "POST":
                posted = self._posting.build_request("POST", url, headers=headers, content=request.stream())
                return await self._posting.send(posted, stream=True)
            asked = self._http.build_request(request.method, url, headers=headers)
            try:
                return await self._http.send(asked, stream=True)
            except DROPPED:  # it was kept from an earlier request, and the PACS closed it at this moment
                return await self._http.send(asked, stream=True)
        except (httpx.HTTPError, OSError) as error:
            reason = f"the PACS at {self.connection.url} does not answer: {type(error).__name__}"
            raise PacsError(reason, status=503) from error

    async def _cut_frames(self, study: str, series: str, instance: str, numbers: str) -> Response | None:
        """Answer with frames of one bit a pixel, cut from the whole instance; None for frames of any other kind.

        Some archives (Orthanc with its DICOMweb plugin before 1.8 or so) refuse them when a frame does not end with a
        byte.
        """
        if instance not in self._frames:
            client = PacsClient(self.connection)
            dataset = await anyio.to_thread.run_sync(client.instance, study, series, instance)
            self._frames[instance] = one_bit_frames(dataset)
            while len(self._frames) > INSTANCES_KEPT:
                self._frames.popitem(last=False)
        frames = self._frames[instance]
        wanted = [int(number) for number in numbers.split(",")]
        if not all(1 <= number <= len(frames) for number in wanted):
            return None
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        body = b"".join(head + frames[number - 1] + b"\r\n" for number in wanted) + f"--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/octet-stream"; boundary={boundary}'
        return Response(body, media_type=kind)


def one_bit_frames(dataset: Dataset) -> list[bytes]:
    """Return the frames of an image of one bit a pixel, each from the beginning of a byte; [] for any other image."""
    if dataset.get("BitsAllocated") != 1 or "PixelData" not in dataset:
        return []
    pixels = int(dataset.Rows) * int(dataset.Columns)
    count = int(dataset.get("NumberOfFrames") or 1)
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")[: count * pixels]
    return [np.packbits(frame, bitorder="little").tobytes() for frame in bits.reshape(count, pixels)]


def _check(request: Request, path: str) -> None:
    parts = path.split("/")
    if parts[0] not in RESOURCES or any(part in ("", ".", "..") for part in parts):
        raise InputError(f"path {path[:60]!r}: legal: a DICOMweb path such as studies/…/series")
    if request.method == "POST":
        kind = request.headers.get("content-type", "").lower().replace('"', "")
        if (
            not STORE.fullmatch(path)
            or not kind.startswith("multipart/related")
            or "type=application/dicom" not in kind
        ):
            raise InputError("legal: DICOM instances as multipart/related; type=application/dicom, to studies")
