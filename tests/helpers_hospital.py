"""An Orthanc, a server on it, and a radiologist with 3D Slicer."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pydicom
from helpers_imaging import write_nifti
from helpers_pacs import ORGANS, send, write_stack
from monailabel.client import MONAILabelClient
from swin_umamba.dicom.provenance import find_earlier
from swin_umamba.dicom.source import on_grid, read_source
from swin_umamba.models import read_spec

from monailabel_app.pacs.client import PacsClient


class Hospital:
    """An Orthanc, a server on it, and a series of each kind."""

    def __init__(self, folder: Path, server, client: PacsClient, models: Path) -> None:
        self.folder, self.server, self.client = folder, server, client
        self.spec = read_spec(models / "seeing")
        self.series: dict[str, str] = {}
        self.truth: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, stack: str, like: str = "", **tags) -> str:
        """Send a series, under a name of its own if it is `like` another, to the PACS."""
        files, labels, affine = write_stack(self.folder / f"dicom {len(self.series)}", like or stack, **tags)
        self.series[stack] = send(self.client, files)
        self.truth[stack] = (labels, affine)
        return self.series[stack]

    def files(self, stack: str) -> list[Path]:
        return sorted((self.folder / f"dicom {list(self.series).index(stack)}").iterdir())

    def segmentations(self, stack: str) -> list[pydicom.Dataset]:
        """Return what the PACS has of us for a series, oldest first, with pixels."""
        header = pydicom.dcmread(self.files(stack)[0])
        study = str(header.StudyInstanceUID)
        found = [h for uid in self.client.series({"Modality": "SEG"}, study) for h in self.client.headers(study, uid)]
        ours = find_earlier(found, self.files(stack), self.spec)
        return [self.client.instance(study, str(h.SeriesInstanceUID), str(h.SOPInstanceUID)) for h in ours]

    def slicer(self, name: str = "alice") -> MONAILabelClient:
        return MONAILabelClient(self.server.url, tmpdir=str(self.folder), client_id=name)

    def submit(self, stack: str, labels: np.ndarray, name: str = "Roe^Jane", order=ORGANS, **more) -> dict:
        """Submit a label as 3D Slicer does, with its values in the order of its list of segments."""
        table = np.zeros(256, np.uint8)
        info = []
        for value, (organ, number) in enumerate(order.items(), start=1):
            table[number] = value
            info.append({"name": organ, "idx": value})
        source = read_source(self.files(stack))  # the grid of the image that the server gives
        voxels = on_grid(table[labels], self.truth[stack][1], source)
        path = write_nifti(self.folder / "label.nii.gz", voxels, source.affine)
        params = {"label_info": info, "model": "seeing", **more}
        return self.slicer(name).save_label(self.series[stack], str(path), params=params)

    def wait(self, what, seconds: float = 60):
        """Return what a question gives once that is not empty."""
        end = time.monotonic() + seconds
        while not (answer := what()):
            assert time.monotonic() < end, self.server.get("/pacs/").text
            time.sleep(0.2)
        return answer
