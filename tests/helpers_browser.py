"""Headless Chromium on OHIF: steps that a person does, and what its pictures show."""

from __future__ import annotations

import atexit
import functools
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from helpers_pacs import need
from PIL import Image
from scipy import ndimage

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no other machine is found
)
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
PATIENCE = 90_000  # milliseconds
ORGAN = 41  # pixels, less than the distance between two organs
COLOURED, BRIGHT = 20, 30  # of 255: difference that an overlay makes; brightness of anatomy


@functools.cache
def chromium():
    """Return the browser of this process, which ends with it."""
    need("Chromium", bool(CHROMIUM) and Path(CHROMIUM).exists())
    from playwright.sync_api import sync_playwright

    playwright = sync_playwright().start()
    atexit.register(playwright.stop)
    return playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))


@contextmanager
def profile(width: int = 1500, height: int = 900) -> Iterator:
    """Open what a person's browser remembers, and forget it at the end; drawing takes as long as a page has pixels."""
    found = chromium().new_context(viewport={"width": width, "height": height})
    yield found
    found.close()


@contextmanager
def browser(own: str, context=None) -> Iterator:
    """Open a page that can reach one server and nothing else; what it asked others for is in `page.foreign`.

    Args:
        own: address of the server.
        context: to open it in, from `profile`; None for one of its own.
    """
    with nullcontext(context) if context else profile() as found:
        page = found.new_page()
        page.set_default_timeout(PATIENCE)
        page.asked, page.foreign = [], []
        page.on("request", lambda asked: note_foreign(page, asked.url, own))
        page.on("response", lambda answer: page.asked.append((answer.status, answer.url)))
        yield page
        page.close()


def note_foreign(page, url: str, own: str) -> None:
    """Note an address that is not the server's; without a route, since one would switch the browser's cache off."""
    if not url.startswith((own, "blob:", "data:", "about:")):
        page.foreign.append(url)


def open_study(page, server: str, study: str) -> None:
    """Open a study in the mode of the wheel's MONAI Label extension, and connect to the server that it proposes."""
    page.goto(f"{server}/ohif/monai-label?StudyInstanceUIDs={study}")
    page.locator("#monailabelServerURL").wait_for()
    confirm = page.get_by_text("Confirm and Hide")
    if confirm.count():
        confirm.click()
    assert page.locator("#monailabelServerURL").input_value() == f"{server}/"
    wait_for(lambda: all((view > BRIGHT).any() for view in views(page)))
    page.locator("table.settingsTable button.actionButton").click()
    page.locator(".tab", has_text="Auto-Segmentation").wait_for()


def run(page) -> None:
    """Click on Run and wait for the answer."""
    tab = page.locator(".tab", has_text="Auto-Segmentation")
    with page.expect_response(lambda answer: "/infer/" in answer.url) as answer:
        tab.get_by_role("button", name="Run").click()
    assert answer.value.status == 200, answer.value.text()


def views(page) -> list[np.ndarray]:
    """Return the middle of the three views, axial, sagittal and coronal, as pictures (row, column, 3) of int."""
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    boxes = page.evaluate(
        "[...document.querySelectorAll('canvas.cornerstone-canvas')].map(canvas => {"
        "const box = canvas.getBoundingClientRect(); return [box.x, box.y, box.width, box.height]})"
    )
    if len(boxes) != 3:
        return [np.zeros((1, 1, 3), int)]
    found = []
    for x, y, width, height in sorted(boxes):
        side = int(min(width, height)) // 2 - 12  # the frame and the letters at the edges are left out
        row, column = int(y + height / 2), int(x + width / 2)
        found.append(picture[row - side : row + side, column - side + 12 : column + side - 12])
    return found


def still_views(page) -> list[np.ndarray]:
    """Return the views once nothing in them changes any more; a volume is drawn slice by slice as it comes."""
    found = [views(page)]

    def same() -> bool:
        page.wait_for_timeout(500)
        found.append(views(page))
        return all(np.array_equal(one, two) for one, two in zip(found[-2], found[-1], strict=True))

    wait_for(same)
    return found[-1]


def overlap(before: np.ndarray, after: np.ndarray) -> float:
    """Return the share of the anatomy and of the overlay together that both cover: 1 if they are the same.

    Args:
        before: a view, its anatomy brighter than what is around it.
        after: the same with the overlay.
    """
    grey = before.max(axis=2)
    edge = ndimage.maximum_filter(grey, ORGAN) / 2  # of an organ, blurred in thick slices
    anatomy, overlay = grey > np.maximum(edge, BRIGHT), (np.abs(after - before) > COLOURED).any(axis=2)
    return float(np.count_nonzero(anatomy & overlay) / np.count_nonzero(anatomy | overlay))


def wait_for(what: Callable[[], object], seconds: float = 60) -> object:
    """Return what a question gives once that is true."""
    end = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)
    return answer
