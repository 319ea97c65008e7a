"""The proxy between viewers and a PACS that refuses."""

from __future__ import annotations

import httpx
import pytest
from helpers_coroutines import run_coroutine
from starlette.requests import Request

from monailabel_app.pacs import proxy as module
from monailabel_app.pacs.connection import PacsConnection, PacsError
from monailabel_app.pacs.proxy import DicomProxy

FRAME = "studies/1.2/series/1.3/instances/1.4/frames/1"


class Refusal(httpx.AsyncByteStream):
    """The body of an answer, which holds a connection until it is closed."""

    closed = False

    async def __aiter__(self):
        yield b"no such frame"

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def refusal():
    return Refusal()


@pytest.fixture
def proxy(refusal):
    """A proxy to a PACS that refuses everything."""
    found = DicomProxy(PacsConnection("http://127.0.0.1:1/dicom-web"))
    found._http = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: httpx.Response(400, stream=refusal)))
    return found


def forward(proxy: DicomProxy):
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    return run_coroutine(proxy.forward(Request(scope), FRAME))


def test_refused_frame_frees_its_connection_when_the_instance_cannot_be_fetched(proxy, refusal, monkeypatch):
    def fail(*arguments: object) -> None:
        raise PacsError("the PACS does not answer", status=503)

    monkeypatch.setattr(module.PacsClient, "instance", fail)
    with pytest.raises(PacsError, match="does not answer"):
        forward(proxy)
    assert refusal.closed


def test_refused_frame_of_an_image_of_more_bits_is_refused(proxy, refusal, monkeypatch):
    monkeypatch.setattr(module.PacsClient, "instance", lambda *arguments: module.Dataset())
    answer = forward(proxy)
    assert (answer.status_code, answer.body) == (400, b"no such frame")
    assert refusal.closed


@pytest.mark.parametrize(("method", "asked"), [("GET", 5), ("POST", 3)])
def test_connection_that_the_pacs_closed_meanwhile_is_made_again(hasty, method, asked):
    """A body can be sent only once, so each has a connection of its own."""
    proxy = DicomProxy(PacsConnection(f"http://127.0.0.1:{hasty.server_port}/dicom-web"))
    kind = (b"content-type", b'multipart/related; type="application/dicom"; boundary=x')
    scope = {"type": "http", "method": method, "path": "/", "query_string": b"", "headers": [kind]}

    async def receive():
        return {"type": "http.request", "body": b"--x--" if method == "POST" else b""}

    async def ask() -> bytes:
        answer = await proxy.forward(Request(scope, receive), "studies")
        body = b"".join([part async for part in answer.body_iterator])
        await answer.background()
        assert answer.status_code == 200
        return body

    async def ask_often() -> list[bytes]:
        return [await ask() for _ in range(3)]

    assert run_coroutine(ask_often()) == [b"[]"] * 3
    assert len(hasty.asked) == asked
