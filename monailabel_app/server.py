"""The guarded server: MONAI Label's requests that are safe, ours in place of those that are not, nothing else.

`uvicorn monailabel_app.server:app` after `MONAI_LABEL_APP_DIR` and `MONAI_LABEL_STUDIES` are set, which
`python -m monailabel_app` does.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio.to_thread
from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.routing import APIRoute
from monailabel.endpoints import datastore, info, model
from monailabel.endpoints import session as sessions
from monailabel.endpoints.user.auth import DEFAULT_USER
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from monailabel.interfaces.utils.app import app_instance
from starlette.middleware.cors import CORSMiddleware
from swin_umamba.errors import InputError, input_error_of

from monailabel_app import endpoints, processes, viewer
from monailabel_app.checks import check_tag
from monailabel_app.monitoring import RequestLog, keep_names_out, metrics, request_id
from monailabel_app.ohif.site import OLD, explain, find_viewer, site_of
from monailabel_app.pacs import endpoints as pacs_endpoints
from monailabel_app.pacs.connection import PacsError
from monailabel_app.pacs.datastore import PacsDatastore
from monailabel_app.security import COOKIE, Guard, Rules, page_after_login
from monailabel_app.stopping import Stopped
from monailabel_app.versions import UnknownModel

logger = logging.getLogger(__name__)

THREADS = 200  # of requests at once; those that wait for the network must not keep a request for the state waiting
DIGESTS = ("SHA256", "SHA512", "MD5")
OHIF_COOKIE = "MONAILABEL_SERVER_URL"
KEPT = {  # of MONAI Label's own requests; what is missing here does not exist
    "GET": (
        *("/info/", "/model/info/{model}", "/session/{session_id}", "/datastore/", "/datastore/image"),
        *("/datastore/image/info", "/datastore/label", "/datastore/label/info"),
    ),
    "DELETE": ("/session/{session_id}", "/datastore/", "/datastore/image", "/datastore/label"),
    "HEAD": ("/datastore/image", "/datastore/label"),
}
FOLDER_HAS_NO_VIEWER = (
    "This server's images are files of a folder, and OHIF shows DICOM series of a PACS. Use the MONAI Label module of "
    "3D Slicer, or start the server with --studies URL of a DICOMweb server."
)
LOGIN_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Log in</title>
<body style="font: 1rem sans-serif; margin: 4rem auto; max-width: 24rem"><h1>Swin-UMamba server</h1>
<form method="post"><label>Token<br><input name="token" type="password" autofocus
 autocomplete="current-password" style="width: 100%"></label><p><button>Log in</button></form>{message}</body></html>"""


def create_app(rules: Rules | None = None) -> Any:
    """Return the ASGI application.

    Args:
        rules: of the guard; None reads them from the environment.
    """
    rules = rules or Rules.from_environment()
    api = FastAPI(title="Swin-UMamba for MONAI Label", docs_url=None, redoc_url=None, lifespan=_lifespan)
    api.include_router(endpoints.router)
    api.include_router(viewer.router)
    api.include_router(pacs_endpoints.router)
    _add_stock_routes(api)
    _add_own_routes(api, rules)
    for kind, status in (
        (UnknownModel, 404), (ImageNotFoundException, 404), (LabelNotFoundException, 404),
        (MONAILabelException, 400), (InputError, 400), (PacsError, 502), (Stopped, 409),
    ):  # fmt: skip
        api.add_exception_handler(kind, functools.partial(_refuse, status=status))
    api.add_exception_handler(Exception, _fail)
    guarded: Any = Guard(api, rules)
    if rules.origins:
        guarded = CORSMiddleware(
            guarded, allow_origins=rules.origins, allow_credentials=True, allow_methods=["*"], allow_headers=["*"]
        )
    return RequestLog(guarded)


@asynccontextmanager
async def _lifespan(api: FastAPI) -> AsyncIterator[None]:
    keep_names_out()
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    instance = await anyio.to_thread.run_sync(app_instance)
    instance.server_mode(True)
    await anyio.to_thread.run_sync(instance.on_init_complete)
    yield
    proxy = getattr(api.state, "dicom_proxy", None)
    if proxy is not None:
        await proxy.close()
    processes.stop_all()


def _add_stock_routes(api: FastAPI) -> None:
    for module in (info, model, sessions, datastore):
        for route in module.router.routes:
            if not isinstance(route, APIRoute):
                continue
            methods = sorted(method for method in route.methods or () if route.path in KEPT.get(method, ()))
            if methods:
                api.add_api_route(
                    route.path, off_the_loop(route.endpoint), methods=methods, summary=route.summary, tags=route.tags
                )


def off_the_loop(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Return one of MONAI Label's handlers as a plain function, which the server runs in a thread.

    Its handlers are coroutines that never wait, so each would stop all others for as long as it works. The "user"
    that they ask for is filled in: who may do what is the guard's business.
    """

    @functools.wraps(endpoint)
    def run(*args: Any, **kwargs: Any) -> Any:
        _check_values(kwargs)
        coroutine = endpoint(*args, **kwargs, **({"user": DEFAULT_USER} if takes_user else {}))
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        coroutine.close()
        raise RuntimeError(f"{endpoint.__name__} waits for something; it cannot run in a thread")

    signature = inspect.signature(endpoint, eval_str=True)
    takes_user = "user" in signature.parameters
    kept = [parameter for name, parameter in signature.parameters.items() if name != "user"]
    run.__signature__ = signature.replace(parameters=kept, return_annotation=Any)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in kept}
    del run.__wrapped__
    return run


def _check_values(values: dict[str, Any]) -> None:
    """Refuse ids that the data store does not know, and illegal tags, before a path is made of them."""
    for name in ("image", "label", "id"):
        value = values.get(name)
        if isinstance(value, str) and not app_instance().datastore().knows(value):
            raise ImageNotFoundException(f"Image {value[:128]!r} not found")
    digest = values.get("check_sum")
    if isinstance(digest, str) and ":" in digest and digest.split(":")[0] not in DIGESTS:
        raise InputError(f"check_sum {digest[:40]!r}: legal: {', '.join(DIGESTS)}, a colon, and the digest")
    if isinstance(values.get("tag"), str):
        check_tag(values["tag"])
    if "session_id" in values:
        session = endpoints.find_session(values["session_id"])
        if values.get("image") is True and Path(session.image).is_dir():
            raise InputError("image true: legal for a session of one file; this one has several")


def _add_own_routes(api: FastAPI, rules: Rules) -> None:
    @api.get("/healthz", tags=["Server"], summary="Whether the server is up, and with which models")
    def healthz() -> Any:
        instance = app_instance()
        served = {name: instance.store.served(name).spec.version for name in instance.names}
        return {"status": "ok", "version": instance.version, "models": served}

    api.get("/metrics", tags=["Server"], summary="For Prometheus")(metrics)

    @api.get("/auth/", tags=["Server"], summary="Whether a token is needed; 3D Slicer asks this first")
    def auth() -> Any:
        if rules.token is None:
            raise HTTPException(404, "no token is needed")
        return {"enabled": True, "client_id": "swin_umamba", "realm": "swin_umamba"}

    @api.post("/auth/token", tags=["Server"], summary="3D Slicer's log-in: any user name, the token as password")
    def token(password: str = Form(...), username: str = Form("")) -> Any:
        if not rules.accepts(password):
            raise HTTPException(401, "wrong token")
        return {"access_token": rules.token, "token_type": "bearer"}

    @api.get("/auth/token/valid", tags=["Server"], summary="Whether the token of this request is right")
    def valid() -> Any:
        return {"username": "user"}

    @api.get("/login", include_in_schema=False)
    def login_page() -> Any:
        return HTMLResponse(LOGIN_PAGE.format(message=""))

    @api.post("/login", include_in_schema=False)
    def login(request: Request, token: str = Form(""), next: str = "") -> Any:
        if not rules.accepts(token):
            return HTMLResponse(LOGIN_PAGE.format(message="<p>That is not the token."), status_code=401)
        answer = RedirectResponse(page_after_login(next), status_code=303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
        return answer

    @api.get("/", include_in_schema=False)
    def start() -> Any:
        return RedirectResponse("/ohif/")

    @api.api_route("/ohif/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def ohif(request: Request, path: str) -> Any:
        if not isinstance(app_instance().datastore(), PacsDatastore):
            return explain(FOLDER_HAS_NO_VIEWER)
        folder = find_viewer(app_instance().settings.data_dir)
        answer = await site_of(folder).get_response(path, request.scope)
        if folder == OLD:  # it asks for the server's address, and finds it there
            answer.set_cookie(OHIF_COOKIE, quote(str(request.base_url), safe=""), samesite="strict")
        return answer

    @api.put("/model/{model}", include_in_schema=False)
    @api.delete("/model/{model}", include_in_schema=False)
    @api.post("/reload", include_in_schema=False)
    def switched_off() -> Any:
        raise HTTPException(403, "switched off: put models into a folder of the server, and choose by /versions")


def _refuse(request: Request, error: Exception, status: int) -> JSONResponse:
    message = getattr(error, "msg", None) or str(error)
    status = getattr(error, "status", status)  # of a PACS
    return JSONResponse({"detail": " ".join(str(message).split())}, status_code=status)


def _fail(request: Request, error: Exception) -> JSONResponse:
    cause = input_error_of(error)
    if cause is not None:
        return _refuse(request, cause, 400)
    logger.error("unexpected error", exc_info=error)
    detail = f"internal error; the server's log has it under request id {request_id.get()}"
    return JSONResponse({"detail": detail}, status_code=500)


app = create_app()
