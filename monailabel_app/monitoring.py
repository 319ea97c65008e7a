"""What an administrator sees of a running server: health, metrics, and logs that name no patient."""

from __future__ import annotations

import json
import logging
import time
import uuid
from contextvars import ContextVar
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

request_id: ContextVar[str] = ContextVar("request_id", default="")
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)  # memory, CPU seconds, open files
REQUESTS = Counter("swin_umamba_requests", "Requests answered", ["method", "route", "status"], registry=REGISTRY)
SECONDS = Histogram(
    "swin_umamba_request_seconds",
    "Seconds until a request was answered",
    ["route"],
    buckets=(0.01, 0.05, 0.2, 1, 5, 20, 60, 300),
    registry=REGISTRY,
)
LOG_BYTES, LOG_FILES = 10_000_000, 5
PROCESSES = ("task_train", "task_batch_infer", "task_scoring")  # as MONAI Label calls the loggers of their output


class RequestLog:
    """ASGI middleware: gives each request an id, tells its route (never its values), status and seconds.

    Args:
        app: to watch.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and note what came of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identifier, start, status = uuid.uuid4().hex[:12], time.perf_counter(), 500
        request_id.set(identifier)

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-request-id", identifier.encode()))
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "refused" if status in (401, 403, 413) else "unknown")
            REQUESTS.labels(scope["method"], route, status).inc()
            SECONDS.labels(route).observe(seconds)
            logger.info("%s %s %d", scope["method"], route, status, extra={"seconds": round(seconds, 4)})


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request id."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        if hasattr(record, "seconds"):
            line["seconds"] = record.seconds
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(data_dir: Path, level: int = logging.INFO) -> None:
    """Log to stderr and to `<data_dir>/logs/server.log`, which is rotated."""
    folder = Path(data_dir) / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    file = RotatingFileHandler(folder / "server.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    handlers: list[logging.Handler] = [logging.StreamHandler(), file]
    for handler in handlers:
        handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=handlers, force=True)


def keep_names_out() -> None:
    """Keep only the warnings of loggers that tell requests with all their values, and of what processes say."""
    for name in ("monailabel", "uvicorn.access", "watchdog", "filelock", "ignite", *PROCESSES):
        logging.getLogger(name).setLevel(logging.WARNING)


def metrics() -> Response:
    """Answer with what Prometheus collects."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
