"""Retake the pictures of ohif.md: generated phantoms in a real Orthanc, the server, and headless Chromium on OHIF.

    python docs/screenshots.py [--output docs]

Needs what the end-to-end tests need (Orthanc, Chromium, the fetched site) and the model of the README's quick start in
`bundle/models`. Look at the pictures before you commit them.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bundle"), str(ROOT / "tests")]

from helpers_browser import profile, wait_for  # noqa: E402
from helpers_dicom import COMPLETE, write_series  # noqa: E402
from helpers_ohif import Reader, reader  # noqa: E402
from helpers_pacs import send  # noqa: E402
from helpers_server import serve  # noqa: E402
from swin_umamba.data.phantom import GRID, make_phantom  # noqa: E402

from monailabel_app.pacs.client import PacsClient  # noqa: E402
from monailabel_app.pacs.orthanc import orthanc  # noqa: E402

SIZE = (1400, 840)  # pixels of the page
COARSE = 0b11111000
SERIES = {  # patient -> seed of the phantom, grid, date, description of the study and of the series
    "PHANTOM^ANNA": (201, GRID, "20260310", "MRI abdomen", "T2 TSE tra"),
    "PHANTOM^BERTA": (200, (160, 160, 32), "20260312", "MRI abdomen, follow-up", "T2 SPIR tra"),
    "PHANTOM^CARL": (205, GRID, "20260415", "MRI upper abdomen", "T2 TSE tra, breath hold"),
}
MIDDLE = "part => { const {viewport} = cornerstone.getEnabledElements()[0]; viewport.setImageIdIndex(part); }"
PLANES = "commandsManager.run('toggleHangingProtocol', {protocolId: 'mpr'})"
DRAWN = """() => cornerstone.getEnabledElements().length === 3 &&
  cornerstone.getEnabledElements().every(({ viewport }) => viewport.getActors().length === 2)"""
PATIENCE = 300_000  # milliseconds


def fill(client: PacsClient, folder: Path) -> dict[str, str]:
    """Send the phantoms to the PACS and return {patient: study instance UID}."""
    studies = {}
    for number, (patient, (seed, grid, date, study, series)) in enumerate(SERIES.items(), start=1):
        voxels, _, affine = make_phantom(seed, grid=grid, orientation="LPS")
        told = {"PatientName": patient, "PatientID": f"PH-{number:03d}", "AccessionNumber": f"A{number}"}
        told |= {"StudyDate": date, "StudyDescription": study, "SeriesDescription": series}
        image = send(client, write_series(folder / patient, voxels.astype(float), affine, **{**COMPLETE, **told}))
        studies[patient] = client.series({"Modality": "MR"})[image]["StudyInstanceUID"]
    return studies


class Photographer:
    """Takes pictures of what a reader sees.

    Args:
        person: in front of OHIF.
        folder: for the pictures.
    """

    def __init__(self, person: Reader, folder: Path) -> None:
        self.person, self.page, self.folder = person, person.page, folder

    def take(self, name: str) -> None:
        """Write a PNG; without the last bits of each channel, which nobody sees, it is half as large."""
        self.page.wait_for_timeout(1500)
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        picture.point(lambda value: value & COARSE).save(self.folder / name, optimize=True)
        print(self.folder / name, (self.folder / name).stat().st_size // 1000, "kB")

    def studies(self) -> None:
        """Take the list of studies, with one chosen."""
        self.page.goto(f"{self.person.server.url}/ohif/")
        self.page.get_by_text("PHANTOM, ANNA").click()
        self.page.get_by_text("T2 TSE tra").wait_for()
        self.take("ohif_studies.png")

    def planes(self, study: str) -> None:
        """Take a result in three planes."""
        self.segment(study, "quickstart")
        self.page.evaluate(PLANES)
        wait_for(lambda: self.page.evaluate(DRAWN))
        self.take("ohif_planes.png")

    def doubts(self, study: str) -> None:
        """Take a result that is to be looked at, of the model that comes with the repository."""
        self.segment(study, "chaos_mri")
        self.take("ohif_check.png")

    def stored(self, study: str) -> None:
        """Take a result that was corrected and stored."""
        self.segment(study, "quickstart")
        self.person.stroke("Brush", (0.42, 0.36), (0.5, 0.36), radius=8)
        self.person.store("Roe^Jane")
        self.page.wait_for_selector("[data-cy=ml-done]:has-text('in the PACS')")
        self.take("ohif_stored.png")

    def segment(self, study: str, model: str) -> None:
        self.person.open(study)
        self.page.fill("[data-cy=ml-name]", "Roe^Jane")
        self.page.select_option("[data-cy=ml-model]", model)
        self.person.segment(wait=PATIENCE)
        self.page.evaluate(MIDDLE, 17)


def main() -> None:
    """Set up a hospital, and take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder for the pictures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, orthanc(Path(folder) / "orthanc") as connection:
        studies = fill(PacsClient(connection), Path(folder))
        place = {"data_dir": Path(folder) / "data", **connection.as_environment()}
        models = (ROOT / "bundle" / "models", "--models", str(ROOT / "models"))
        with serve(connection.url, *models, **place) as server, profile(*SIZE) as context:
            with reader(server, context) as person:
                photographer = Photographer(person, options.output)
                photographer.studies()
                photographer.planes(studies["PHANTOM^ANNA"])
                photographer.doubts(studies["PHANTOM^BERTA"])
                photographer.stored(studies["PHANTOM^CARL"])


if __name__ == "__main__":
    main()
