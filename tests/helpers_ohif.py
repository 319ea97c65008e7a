"""Chromium at OHIF, as a radiologist uses it: with the mouse, and with what the page itself holds to compare with."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pydicom
import requests
from helpers_browser import browser, profile
from helpers_dicom import COMPLETE, write_series
from helpers_imaging import affine_of, painted_volume, ramp
from helpers_pacs import need, send, write_stack
from helpers_server import Server
from playwright.sync_api import Page, TimeoutError, expect
from pydicom.pixel_data_handlers.util import apply_modality_lut
from pydicom.uid import generate_uid

from monailabel_app.ohif.package import default_folder, find_site
from monailabel_app.pacs.client import PacsClient

TOKEN = "a-token-of-tests-0123"
ODD = "axial, 39 x 37"  # rows times columns is no multiple of 8, so one-bit frames do not end with a byte
STACKS = (ODD, "coronal", "oblique")
SPARE = "spare"  # a study that tests leave as it is
TOOLS = "axial, 39 x 37, for the tools"
PANEL = "axial, 39 x 37, for the panel"  # tests that ask what a study is like at first have one of their own
PROXY = "axial, 39 x 37, for the proxy"
PAIR = ("axial of two", "coronal of two")  # two series of one study
PAIR_STUDY = generate_uid()
STUDIES = len(STACKS) + 5

WAIT = 60_000  # ms
expect.set_options(timeout=30_000)  # ms; a machine that draws in software and does other things too is slow
SMALL = (1200, 700)  # pixels of a page in which everything has its place
READ = """label => {
  const all = cornerstoneTools.segmentation.state.getSegmentations();
  const found = all.find(s => s.label === label || s.segmentationId === `monailabel-${label}`);
  return found.representationData.Labelmap.imageIds.map(id => {
    const image = cornerstone.cache.getImage(id);
    const uid = /instances\\/([0-9.]+)\\//.exec(image.referencedImageId)[1];
    const pixels = image.voxelManager.getScalarData();
    return [uid, image.rows, image.columns, btoa(String.fromCharCode(...pixels))];
  });
}"""

FORGET = """() => new Promise((done, failed) => {
  localStorage.clear();
  const request = indexedDB.deleteDatabase('monailabel');
  request.onsuccess = done;
  request.onerror = request.onblocked = failed;
})"""

DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
PAINTING = """() => {
  const { activeSegmentation, segmentIndex } = cornerstoneTools.segmentation;
  const [{ viewport }] = cornerstone.getEnabledElements();
  const painted = activeSegmentation.getActiveSegmentation(viewport.id)?.segmentationId;
  const tools = cornerstoneTools.ToolGroupManager.getToolGroupForViewport(viewport.id);
  const tool = tools?.getActivePrimaryMouseButtonTool();
  return { painted, organ: painted && segmentIndex.getActiveSegmentIndex(painted), tool };
}"""
SLICE = """() => {
  const { viewport } = cornerstone.getEnabledElements()[0];
  return cornerstone.metaData.get('sopCommonModule', viewport.getCurrentImageId()).sopInstanceUID;
}"""


def need_ohif() -> None:
    """Skip, or fail, without the viewer's package."""
    need("OHIF (python -m monailabel_app.ohif fetch)", find_site([default_folder()]) is not None)


class Clinic:
    """A server behind a token on an Orthanc, with one study of each kind."""

    def __init__(self, folder: Path, client: PacsClient) -> None:
        self.client = client
        self.headers: dict[str, pydicom.Dataset] = {}
        self.files: dict[str, list[Path]] = {}
        for number, stack in enumerate((*STACKS, SPARE, TOOLS, PANEL, PROXY)):
            self._add(folder, stack, number)
        for stack in PAIR:
            self._add(folder, stack, STUDIES - 1, StudyInstanceUID=PAIR_STUDY, SeriesDescription=stack)
        self.server: Server | None = None

    def _add(self, folder: Path, stack: str, number: int, **more: str) -> None:
        """Send a series of a patient with a number to the PACS."""
        place, tags = folder / f"dicom {stack}", {"PatientID": f"P{number}", "PatientName": f"DOE^{number}", **more}
        if stack in (ODD, TOOLS, PANEL, PROXY):
            affine = affine_of("LPS", (1.5, 1.25, 4.0))
            voxels = ramp(painted_volume((39, 37, 12))).astype(float)
            files = write_series(place, voxels, affine, **{**COMPLETE, **tags})
        else:
            kind = {SPARE: "axial descending", PAIR[0]: "axial ascending", PAIR[1]: "coronal"}.get(stack, stack)
            files, *_ = write_stack(place, kind, **tags)
        send(self.client, files)
        self.headers[stack] = pydicom.dcmread(files[0])
        self.files[stack] = files

    def study(self, stack: str) -> str:
        return str(self.headers[stack].StudyInstanceUID)

    def series(self, stack: str) -> str:
        return str(self.headers[stack].SeriesInstanceUID)

    def ask(self, method: str, path: str, **more) -> requests.Response:
        assert self.server is not None
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        return requests.request(method, self.server.url + path, headers=bearer, timeout=60, **more)

    def store_automatic(self, stack: str, who: str) -> None:
        """Have somebody else store the automatic label."""
        image = self.series(stack)
        found = self.ask("POST", f"/viewer/images/{image}/segment", json={}).json()
        names = [{"id": entry["id"], "name": entry["name"]} for entry in found["segments"]]
        submission = {"client_id": who, "segments": names, "slices": found["slices"]}
        assert self.ask("PUT", f"/viewer/images/{image}/label", json=submission).status_code == 200

    def grey_values(self, stack: str) -> dict[str, np.ndarray]:
        """Return the images (row, column) of a series by their SOP instance UIDs."""
        found = [pydicom.dcmread(file) for file in self.files[stack]]
        return {str(image.SOPInstanceUID): apply_modality_lut(image.pixel_array, image) for image in found}

    def segmentation(self, stack: str) -> pydicom.Dataset:
        """Return the segmentation of a series that the PACS got last."""
        return max(self.segmentations(stack), key=lambda header: int(header.InstanceNumber))

    def segmentations(self, stack: str) -> list[pydicom.Dataset]:
        """Return all segmentations of a series that the PACS has."""
        study = self.study(stack)
        headers = [h for uid in self.client.series({"Modality": "SEG"}, study) for h in self.client.headers(study, uid)]
        found = [self.client.instance(study, str(h.SeriesInstanceUID), str(h.SOPInstanceUID)) for h in headers]
        return [h for h in found if h.ReferencedSeriesSequence[0].SeriesInstanceUID == self.series(stack)]


class Reader:
    """A person in front of OHIF.

    Args:
        page: of the browser.
        server: that serves it.
    """

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server = page, server
        self.errors: list[str] = []
        self.said: deque[str] = deque(maxlen=20)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("requestfailed", lambda request: self.said.append(f"{request.url}: {request.failure}"))
        page.on("dialog", lambda dialog: dialog.accept())

    def log_in(self, token: str) -> None:
        """Give the token to the page that asks for it."""
        self.page.goto(f"{self.server.url}/ohif/")
        self.give_token(token)

    def give_token(self, token: str = TOKEN) -> None:
        """Answer the page that asks for the token."""
        self.page.fill("input[name=token]", token)
        self.page.click("button")
        self.page.wait_for_url("**/ohif/")

    def forget(self) -> None:
        """Remove what the browser has kept of earlier tests, but for the login."""
        self.page.goto(f"{self.server.url}/healthz")
        self.page.evaluate(FORGET)

    def open_list(self) -> None:
        """Open the list of studies, in a page as wide as all its columns."""
        self.page.set_viewport_size({"width": 1500, "height": 900})
        self.page.goto(f"{self.server.url}/ohif/")

    def open(self, study: str) -> None:
        """Open a study to be corrected, and wait for the panel and the first picture."""
        self.page.goto(f"{self.server.url}/ohif/segmentation?StudyInstanceUIDs={study}")
        self.settled()

    def settled(self) -> None:
        """Wait until the panel has taken up a series."""
        try:
            self.page.wait_for_selector("[data-cy=ml-badge]")
            self.page.wait_for_function("() => window.cornerstone?.getEnabledElements().length > 0")
            self.page.wait_for_selector("[data-cy=ml-badge]:not(:has-text('Open a study'))")
            self.page.wait_for_selector("[data-cy=ml-busy]", state="detached")
        except TimeoutError as error:
            shown = self.page.inner_text("body")[:500]
            raise AssertionError(f"{self.page.url} shows {shown!r} and said {list(self.said)}") from error

    def segment(self, scope: str = "all", wait: int = WAIT) -> None:
        """Have the whole series, or the slice that is looked at, segmented."""
        self.page.select_option("[data-cy=ml-scope]", scope)
        self.page.click("[data-cy=ml-segment]")
        expect(self.part("done")).to_contain_text("Segmented.", timeout=wait)

    def stroke(
        self, tool: str, start: tuple[float, float], end: tuple[float, float], radius: int = 4, viewport: int = 0
    ) -> None:
        """Draw with the brush or the eraser, from place to place in fractions of the viewport."""
        self.page.click(f"[data-cy={tool}-btn]")
        self.page.fill("[data-cy$=-radius] input", str(radius))
        self.page.keyboard.press("Tab")
        self.drag(start, end, viewport)

    def drag(self, start: tuple[float, float], end: tuple[float, float], viewport: int = 0) -> None:
        """Draw with the tool that is chosen, from place to place in fractions of the viewport."""
        box = self.page.locator(".cornerstone-canvas").nth(viewport).bounding_box()
        assert box is not None
        (x0, y0), (x1, y1) = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
        self.page.mouse.move(x0, y0)
        self.page.mouse.down()
        self.page.mouse.move(x1, y1, steps=4)
        self.page.mouse.up()
        self.drawn()

    def press(self, *keys: str) -> None:
        """Press keys, one after the other; arrows lead to other slices."""
        for key in keys:
            before = self.slice()
            self.page.keyboard.press(key)
            if key.startswith("Arrow"):
                self.page.wait_for_function(f"before => ({SLICE})() !== before", arg=before)
            self.drawn()

    def drawn(self) -> None:
        """Wait until the viewer has drawn what it got to know."""
        self.page.evaluate(DRAWN)

    def painting(self) -> str:
        """Return what the mouse would paint with in the first viewport and where that is, to be told of a failure."""
        return f"{self.page.evaluate(PAINTING)} on {self.slice()}"

    def slice(self) -> str:
        """Return the SOP instance UID of the image in the first viewport."""
        return self.page.evaluate(SLICE)

    def store(self, name: str = "Roe^Jane") -> None:
        """Say who one is, and store."""
        self.page.fill("[data-cy=ml-name]", name)
        self.page.keyboard.press("Tab")
        self.page.click("[data-cy=ml-store]")
        self.page.wait_for_selector("[data-cy=ml-done], [data-cy=ml-warn], [data-cy=ml-error]")

    def part(self, name: str):
        """Return a part of the panel."""
        return self.page.locator(f"[data-cy=ml-{name}]")

    def voxels(self, label: str = "MONAI Label") -> dict[str, np.ndarray]:
        """Return the labels (row, column) of each image by its SOP instance UID, as the viewer holds them.

        Args:
            label: of OHIF's segmentation: ours, the UID of the series that ours is of, or the description of a DICOM
                SEG that it has opened.
        """
        found = self.page.evaluate(READ, label)
        return {
            uid: np.frombuffer(base64.b64decode(text), np.uint8).reshape(rows, columns)
            for uid, rows, columns, text in found
        }


@contextmanager
def reader(server: Server, context=None) -> Iterator[Reader]:
    """Open a page and close it; `context` as `browser` takes it."""
    need_ohif()
    with nullcontext(context) if context else profile(*SMALL) as found, browser(server.url, found) as page:
        yield Reader(page, server)


def planes_of(segmentation: pydicom.Dataset) -> dict[str, np.ndarray]:
    """Return the labels (row, column) of each referenced image by its SOP instance UID."""
    planes: dict[str, np.ndarray] = {}
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    for frame, group in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        uid = str(group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        plane = planes.setdefault(uid, np.zeros(frame.shape, np.uint8))
        plane[frame > 0] = number
    return planes


def assert_same(planes: dict[str, np.ndarray], voxels: dict[str, np.ndarray]) -> None:
    """Compare labels slice by slice; a slice that a segmentation has no frame of is empty."""
    assert set(planes) <= set(voxels)
    for uid, pixels in voxels.items():
        np.testing.assert_array_equal(planes.get(uid, np.zeros_like(pixels)), pixels)


def count(voxels: dict[str, np.ndarray], label: int) -> int:
    return sum(int(np.count_nonzero(pixels == label)) for pixels in voxels.values())
