"""What the tests of the PACS share."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class _Hasty(BaseHTTPRequestHandler):
    """Answers one request of a connection and keeps it, but closes it at the moment when the next one arrives."""

    protocol_version = "HTTP/1.1"
    answered = 0

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append(f"{self.command} {self.path} {len(body)}")
        if self.answered:
            self.close_connection = True
            return
        self.answered += 1
        self.send_response(200)
        self.send_header("content-type", "application/dicom+json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    do_POST = do_GET

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def hasty():
    """A server that closes connections when they are used again; `asked` has its requests, with the body's length."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hasty)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
