"""OHIF of the monailabel wheel in headless Chromium, on the one command that starts a server and an Orthanc."""

from __future__ import annotations

import numpy as np
import psutil
import pydicom
import pytest
import requests
from helpers_browser import BRIGHT, browser, open_study, overlap, run, still_views, views, wait_for
from helpers_pacs import need_orthanc, send, write_stack
from helpers_server import serve
from scipy import ndimage

from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.connection import PacsConnection

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STACKS = ("axial descending", "coronal")
ENOUGH, FAR = 0.75, 0.2  # of anatomy and overlay


@pytest.fixture(scope="module")
def server(tmp_path_factory, seeing_models):
    """The documented command, and a study of each stack that is sent through it."""
    need_orthanc()
    folder = tmp_path_factory.mktemp("ohif")
    place = {"data_dir": folder / "data", "XDG_DATA_HOME": str(folder)}  # in which no other OHIF was fetched
    with serve("", seeing_models, "--orthanc", str(folder / "orthanc"), **place) as running:
        viewer = PacsClient(PacsConnection(f"{running.url}/proxy/dicom/wado"))
        running.studies = {}
        for number, stack in enumerate(STACKS):
            name = {"PatientID": f"P00{number}", "PatientName": f"PHANTOM^{number}"}
            files, *_ = write_stack(folder / stack, stack, **name, WindowCenter=200, WindowWidth=400)
            send(viewer, files)
            running.studies[stack] = str(pydicom.dcmread(files[0]).StudyInstanceUID)
        yield running


@pytest.fixture(scope="module")
def page(server):
    with browser(server.url) as opened:
        yield opened


def test_work_list_is_filtered_by_the_pacs(server, page):
    page.goto(f"{server.url}/ohif/")
    first, second = (page.locator("span", has_text=f"P00{number}").first for number in range(2))
    first.wait_for()
    second.wait_for()
    page.locator("input").nth(1).fill("P001")  # patient's name, MRN, …
    first.wait_for(state="detached")
    assert second.count() == 1
    assert any("P001" in url for _, url in page.asked if "/proxy/dicom/qido/studies" in url)


@pytest.mark.parametrize("stack", STACKS)
def test_overlay_lies_on_the_anatomy(server, page, stack):
    open_study(page, server.url, server.studies[stack])
    before = still_views(page)
    check_axial(before[0])
    run(page)
    wait_for(lambda: fits(before, views(page)))
    assert not [url for status, url in page.asked if status >= 500]
    if stack == STACKS[0]:
        for axis, mirrored in enumerate([(0, 2), (0, 1), (1, 2)]):
            check_mirrored(page, before, axis, mirrored)


def check_mirrored(page, before: list[np.ndarray], axis: int, mirrored: tuple[int, int]) -> None:
    """Turn an answer of the server over on its way, right and left, front and back, …: the test above would see it."""

    def turn(route):
        answer = route.fetch()
        head, voxels = answer.body().split(b"\n\n", 1)
        sizes = next(line for line in head.splitlines() if line.startswith(b"sizes:"))
        shape = [int(side) for side in sizes.split()[1:]][::-1]  # (Z, Y, X)
        turned = np.flip(np.frombuffer(voxels, np.uint8).reshape(shape), 2 - axis)
        route.fulfill(response=answer, body=head + b"\n\n" + turned.tobytes())

    def seen() -> list[float]:
        return [overlap(*pair) for pair in zip(before, views(page), strict=True)]

    page.route("**/infer/**", turn)
    try:
        run(page)
    finally:
        page.unroute("**/infer/**")
    wait_for(lambda: min(seen()[view] for view in mirrored) < FAR)
    shares = [overlap(*pair) for pair in zip(before, still_views(page), strict=True)]
    assert min(shares) <= ENOUGH
    turned = [shares[view] for view in mirrored]
    assert min(turned) < FAR, shares
    assert max(turned) < ENOUGH, shares


def fits(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    """Tell whether the overlay covers the anatomy and nothing else, in all three views."""
    return all(overlap(*pair) > ENOUGH for pair in zip(before, after, strict=True))


def check_axial(view: np.ndarray) -> None:
    """Check that a radiologist sees the patient as usual: the large organ of the right side on the left, front up."""
    parts, count = ndimage.label((view > BRIGHT).any(axis=2))
    assert count == 3
    sizes = ndimage.sum_labels(np.ones_like(parts), parts, range(1, 4))
    rows, columns = np.transpose(ndimage.center_of_mass(np.ones_like(parts), parts, range(1, 4)))
    left, right, front = int(np.argmin(columns)), int(np.argmax(columns)), int(np.argmin(rows))
    assert len({left, right, front}) == 3
    assert sizes[left] > 1.3 * sizes[right]  # 6 x 7 pixels against 3 x 8


def test_own_orthanc_ends_with_the_server(server):
    """The last test: also when the server is killed."""
    (child,) = [p for p in psutil.Process(server.process.pid).children() if "Orthanc" in p.name()]
    port = next(c.laddr.port for c in child.net_connections("inet") if c.status == psutil.CONN_LISTEN)
    assert requests.get(f"http://127.0.0.1:{port}/dicom-web/studies", timeout=10).status_code == 401
    server.process.kill()
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
