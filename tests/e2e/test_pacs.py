"""A real Orthanc and a real server: series in, segmentations out, voxel by voxel, in every way that images can lie."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
import SimpleITK as sitk
from helpers_dicom import STACKS, in_ras
from helpers_imaging import write_nifti
from helpers_pacs import ORGANS, need_orthanc, send, write_seeing_model, write_stack
from helpers_server import serve
from monai.data import MetaTensor
from monailabel.client import MONAILabelClient
from swin_umamba.dicom.provenance import find_earlier
from swin_umamba.dicom.segmentation import read_segmentation
from swin_umamba.models import read_spec

from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.orthanc import orthanc

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


class Hospital:
    """An Orthanc, a server on it, and a series of each kind."""

    def __init__(self, folder: Path, server, client: PacsClient, models: Path) -> None:
        self.folder, self.server, self.client = folder, server, client
        self.spec = read_spec(models / "seeing")
        self.series: dict[str, str] = {}
        self.truth: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, stack: str, **tags) -> str:
        """Send a series to the PACS."""
        files, labels, affine = write_stack(self.folder / f"dicom {len(self.series)}", stack, **tags)
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
        path = write_nifti(self.folder / "label.nii.gz", table[labels], self.truth[stack][1])
        params = {"label_info": info, "model": "seeing", **more}
        return self.slicer(name).save_label(self.series[stack], str(path), params=params)

    def wait(self, what, seconds: float = 60):
        """Return what a question gives once that is not empty."""
        end = time.monotonic() + seconds
        while not (answer := what()):
            assert time.monotonic() < end, self.server.get("/pacs/").text
            time.sleep(0.2)
        return answer


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    need_orthanc()
    folder = tmp_path_factory.mktemp("pacs")
    write_seeing_model(folder / "models" / "seeing")
    with orthanc(folder / "orthanc") as connection:
        client = PacsClient(connection)
        place = {"data_dir": folder / "data", **connection.as_environment()}
        with serve(connection.url, folder / "models", "--validation-share", "0.5", **place) as server:
            found = Hospital(folder, server, client, folder / "models")
            for number, stack in enumerate(STACKS):
                found.add(stack, PatientID=f"P{number}", PatientName=f"DOE^{number}")
            files, *_ = write_stack(folder / "other", "axial ascending", Modality="CT")
            send(client, files)
            found.wait(lambda: server.get("/info/").json()["datastore"]["total"] == len(STACKS))
            yield found


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth))


@pytest.mark.parametrize("stack", STACKS)
def test_result_lies_on_the_series(hospital, stack, tmp_path):
    params = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False, "device": "cpu"}
    file, result = hospital.slicer().infer("seeing", hospital.series[stack], params)
    assert result["label_names"] == ORGANS
    found, image = sitk.ReadImage(file), sitk.ReadImage([str(path) for path in hospital.files(stack)])
    labels, affine = hospital.truth[stack]
    assert found.GetSize() == labels.shape == image.GetSize()
    lps = np.diag([-1, -1, 1, 1]) @ affine
    np.testing.assert_allclose(found.GetOrigin(), lps[:3, 3], atol=1e-4)
    np.testing.assert_allclose(
        np.reshape(found.GetDirection(), (3, 3)) * np.array(found.GetSpacing()), lps[:3, :3], atol=1e-4
    )
    voxels = sitk.GetArrayFromImage(found).transpose(2, 1, 0)
    assert dice(voxels > 0, labels > 0) > 0.95
    assert dice(voxels == 1, labels == 1) > 0.95


@pytest.mark.parametrize("stack", STACKS)
def test_submitted_label_comes_back_from_the_pacs_voxel_by_voxel(hospital, stack):
    labels, affine = hospital.truth[stack]
    before = hospital.server.get("/info/").json()["datastore"]["completed"]
    turned = {organ: ORGANS[organ] for organ in ("bladder", "pancreas", "spleen", "liver")}
    answer = hospital.submit(stack, labels, order=turned)
    assert answer["pacs"] == "stored"
    assert hospital.server.get("/info/").json()["datastore"]["completed"] == before + 1
    (dataset,) = hospital.segmentations(stack)
    found = read_segmentation(dataset, hospital.files(stack), hospital.spec.labels)
    expected = in_ras(MetaTensor(labels[None], affine))
    np.testing.assert_array_equal(in_ras(found)[0], expected[0])
    np.testing.assert_allclose(in_ras(found)[1], expected[1], atol=1e-4)
    assert dataset.PatientName == pydicom.dcmread(hospital.files(stack)[0]).PatientName
    assert dataset.ContentCreatorName == "Roe^Jane"
    assert [s.SegmentAlgorithmType for s in dataset.SegmentSequence] == ["SEMIAUTOMATIC"] * len(ORGANS)
    assert {s.SegmentLabel: s.SegmentNumber for s in dataset.SegmentSequence} == ORGANS
    codes = [s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in dataset.SegmentSequence]
    assert codes == ["10200004", "78961009", "15776009", "89837001"]


def test_labels_supersede_each_other(hospital):
    labels, _ = hospital.truth["axial ascending"]
    for organ in (2, 3):
        assert hospital.submit("axial ascending", np.where(labels == organ, 0, labels))["pacs"] == "stored"
    found = hospital.segmentations("axial ascending")
    assert len({dataset.SeriesInstanceUID for dataset in found}) == 1
    assert [dataset.InstanceNumber for dataset in found] == [1, 2, 3]
    earlier = {item.ReferencedSOPInstanceUID for item in found[2].ReferencedImageSequence}
    assert earlier == {dataset.SOPInstanceUID for dataset in found[:2]}
    last = read_segmentation(found[2], hospital.files("axial ascending"), hospital.spec.labels)
    assert not (last == 3).any()
    assert (last == 2).any()
    assert hospital.submit("axial ascending", np.where(labels == 3, 0, labels))["pacs"] == "stored"
    assert len(hospital.segmentations("axial ascending")) == 3  # the same label is not sent again


def test_segment_of_its_own_is_stored_too(hospital):
    labels, _ = hospital.truth["coronal"]
    hospital.submit("coronal", labels, order={"spleen": 2, "liver": 1, "a cyst": 3})
    last = hospital.segmentations("coronal")[-1]
    assert [s.SegmentLabel for s in last.SegmentSequence] == [*ORGANS, "a cyst"]
    found = read_segmentation(last, hospital.files("coronal")).numpy()[0]
    np.testing.assert_array_equal(
        np.bincount(found.ravel(), minlength=6)[[1, 2, 3, 5]],
        [*np.bincount(labels.ravel())[1:3], 0, np.count_nonzero(labels == 3)],
    )


def test_automatic_result_is_stored_when_it_is_asked_for(hospital):
    uid = (
        hospital.add(
            "again",
        )
        if False
        else hospital.series["oblique"]
    )
    answer = requests.post(
        f"{hospital.server.url}/infer/seeing?image={uid}&output=json",
        data={"params": json.dumps({"send_to_pacs": True, "device": "cpu"})},
        timeout=120,
    )
    assert answer.status_code == 400
    assert "corrected" in answer.json()["detail"]
