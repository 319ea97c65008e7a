"""The pages below `/ohif/`: OHIF's site with our files laid over it, or why there is none."""

from __future__ import annotations

import functools
import html
import mimetypes
import os
import re
from pathlib import Path, PurePosixPath

import monailabel.endpoints
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from monailabel_app.ohif.package import default_folder, find_site

OVERLAY = Path(__file__).resolve().parent / "web"
OLD = Path(monailabel.endpoints.__file__).parent / "static" / "ohif"  # of MONAI Label; it shows results and no more
HASHED = re.compile(r"(.*\.bundle\.)?[0-9a-f]{16}\.\w+")  # another content has another name
FOREVER, CHECK = "public, max-age=31536000, immutable", "no-cache"
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>No viewer here</title>
<body style="font: 1rem sans-serif; margin: 4rem auto; max-width: 40rem"><h1>No viewer here</h1>{text}</body></html>"""
for _suffix, _type in ((".js", "text/javascript"), (".mjs", "text/javascript"), (".wasm", "application/wasm")):
    mimetypes.add_type(_type, _suffix)  # whatever the machine's own table says; browsers refuse modules otherwise


class Site(StaticFiles):
    """OHIF's files, ours before them; every address without an ending is the one page.

    Args:
        folder: of the site.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder)
        self.all_directories = [str(folder)] if folder == OLD else [str(OVERLAY), str(folder)]

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file, "index.html" for an address of the page's own, or 404."""
        name = PurePosixPath(path.replace(os.sep, "/")).name
        page = "." not in name
        try:
            answer = await super().get_response("index.html" if page else path, scope)
        except HTTPException as error:
            return explain(error.detail, error.status_code)
        if answer.status_code < 400:
            answer.headers["cache-control"] = FOREVER if HASHED.fullmatch(name) else CHECK
        return answer


def explain(text: str, status: int = 503) -> Response:
    """Return a page that says in words why there is no viewer."""
    return HTMLResponse(PAGE.format(text=f"<p>{html.escape(text)}"), status_code=status)


def find_viewer(data_dir: Path) -> Path:
    """Return the folder of the site to serve: the fetched one, or else MONAI Label's."""
    return find_site([data_dir / "ohif", default_folder()]) or OLD


@functools.lru_cache(maxsize=4)
def site_of(folder: Path) -> Site:
    """Return what serves a folder."""
    return Site(folder)
