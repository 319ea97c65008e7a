"""A real Orthanc and a real server: series in, segmentations out, voxel by voxel, in every way that images can lie."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pydicom
import pytest
import requests
import SimpleITK as sitk
from helpers_bundle import command
from helpers_dicom import COMPLETE, STACKS, in_ras, write_series
from helpers_fuzz import KNOWN, fuzz, fuzz_paths
from helpers_hospital import Hospital
from helpers_pacs import NETWORK, ORGANS, need_orthanc, send, write_stack
from helpers_server import serve
from monai.data import MetaTensor
from swin_umamba.dicom.segmentation import read_segmentation, write_segmentation
from swin_umamba.dicom.structures import read_structures
from swin_umamba.models import ModelSpec

from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.connection import PacsConnection
from monailabel_app.pacs.orthanc import orthanc

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory, seeing_models):
    need_orthanc()
    folder = tmp_path_factory.mktemp("pacs")
    with orthanc(folder / "orthanc") as connection:
        client = PacsClient(connection)
        place = {"data_dir": folder / "data", **connection.as_environment()}
        with serve(connection.url, seeing_models, "--validation-share", "0.5", **place) as server:
            found = Hospital(folder, server, client, seeing_models)
            for number, stack in enumerate(STACKS):
                found.add(stack, PatientID=f"P{number}", PatientName=f"DOE^{number}")
            files, *_ = write_stack(folder / "other", "axial ascending", Modality="CT")
            send(client, files)
            found.wait(lambda: server.get("/info/").json()["datastore"]["total"] == len(STACKS))
            yield found


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth))


def infer(hospital: Hospital, uid: str, output: str = "json", **params) -> requests.Response:
    """Ask for a result by REST."""
    url = f"{hospital.server.url}/infer/seeing?image={uid}&output={output}"
    return requests.post(url, data={"params": json.dumps({"device": "cpu", **params})}, timeout=120)


@pytest.mark.parametrize("stack", STACKS)
def test_result_lies_on_the_series(hospital, stack):
    params = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False, "device": "cpu"}
    file, result = hospital.slicer().infer("seeing", hospital.series[stack], params)
    assert result["label_names"] == ORGANS
    found = sitk.ReadImage(file)
    steps = np.reshape(found.GetDirection(), (3, 3)) * np.array(found.GetSpacing())
    lps = np.vstack([np.column_stack([steps, found.GetOrigin()]), [0, 0, 0, 1]])
    voxels = MetaTensor(sitk.GetArrayFromImage(found).transpose(2, 1, 0)[None], np.diag([-1, -1, 1, 1]) @ lps)
    labels, affine = hospital.truth[stack]
    (found_ras, found_affine), (true_ras, true_affine) = in_ras(voxels), in_ras(MetaTensor(labels[None], affine))
    assert found_ras.shape == true_ras.shape
    np.testing.assert_allclose(found_affine, true_affine, atol=1e-4)
    assert dice(found_ras > 0, true_ras > 0) > 0.95
    assert dice(found_ras == 1, true_ras == 1) > 0.95
    assert infer(hospital, hospital.series[stack], send_to_pacs=True).json()["pacs"] == "stored"
    (dataset,) = hospital.segmentations(stack)
    assert {segment.SegmentAlgorithmType for segment in dataset.SegmentSequence} == {"AUTOMATIC"}
    stored_ras, stored_affine = in_ras(read_segmentation(dataset, hospital.files(stack), hospital.spec.labels))
    np.testing.assert_array_equal(stored_ras, found_ras)
    np.testing.assert_allclose(stored_affine, true_affine, atol=1e-4)


@pytest.mark.parametrize("stack", STACKS)
def test_submitted_label_comes_back_from_the_pacs_voxel_by_voxel(hospital, stack):
    labels, affine = hospital.truth[stack]
    before = hospital.server.get("/info/").json()["datastore"]["completed"]
    turned = {organ: ORGANS[organ] for organ in ("bladder", "pancreas", "spleen", "liver")}
    answer = hospital.submit(stack, labels, order=turned)
    assert answer["pacs"] == "stored"
    assert hospital.server.get("/info/").json()["datastore"]["completed"] == before + 1
    dataset = hospital.segmentations(stack)[-1]
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
    assert [dataset.InstanceNumber for dataset in found] == [1, 2, 3, 4]  # automatic, and three corrections
    earlier = {item.ReferencedSOPInstanceUID for item in found[3].ReferencedImageSequence}
    assert earlier == {dataset.SOPInstanceUID for dataset in found[:3]}
    last = read_segmentation(found[3], hospital.files("axial ascending"), hospital.spec.labels)
    assert not (last == 3).any()
    assert (last == 2).any()
    assert hospital.submit("axial ascending", np.where(labels == 3, 0, labels))["pacs"] == "stored"
    assert len(hospital.segmentations("axial ascending")) == 4  # the same label is not sent again


def test_segment_of_its_own_is_stored_too(hospital):
    labels, _ = hospital.truth["coronal"]
    hospital.submit("coronal", labels, order={"spleen": 2, "liver": 1, "a cyst": 3})
    last = hospital.segmentations("coronal")[-1]
    assert [s.SegmentLabel for s in last.SegmentSequence] == [*ORGANS, "a cyst"]
    found = read_segmentation(last, hospital.files("coronal")).numpy()[0]
    for number, painted in {1: 1, 2: 2, 3: 0, 4: 0, 5: 3}.items():
        assert np.count_nonzero(found == number) == (np.count_nonzero(labels == painted) if painted else 0)


def test_automatic_result_is_stored_only_when_it_is_asked_for_and_nobody_has_corrected(hospital):
    uid = hospital.add("fresh", like="oblique", PatientID="P9")  # the server has not heard of it yet
    assert "pacs" not in infer(hospital, uid).json()
    assert hospital.segmentations("fresh") == []
    assert infer(hospital, uid, send_to_pacs=True).json()["pacs"] == "stored"
    (dataset,) = hospital.segmentations("fresh")
    assert {s.SegmentAlgorithmType for s in dataset.SegmentSequence} == {"AUTOMATIC"}
    assert not dataset.get("ContentCreatorName")
    hospital.submit("fresh", hospital.truth["fresh"][0])
    found = hospital.segmentations("fresh")
    assert len(found) == 2  # the correction supersedes the automatic result
    assert {s.SegmentAlgorithmType for s in found[1].SegmentSequence} == {"SEMIAUTOMATIC"}
    refused = infer(hospital, uid, send_to_pacs=True)
    assert refused.status_code == 400
    assert "corrected" in refused.json()["detail"]


def test_result_as_dicom_seg(hospital, tmp_path):
    answer = infer(hospital, hospital.series["oblique"], output="dicom_seg")
    assert answer.headers["content-type"] == "application/dicom"
    (tmp_path / "a.dcm").write_bytes(answer.content)
    found = read_segmentation(tmp_path / "a.dcm", hospital.files("oblique"), ORGANS)
    labels, affine = hospital.truth["oblique"]
    assert dice(in_ras(found)[0] == 1, in_ras(MetaTensor(labels[None], affine))[0] == 1) > 0.95
    assert not list((hospital.server.data_dir / "tmp").glob("segmentation_*"))
    (tmp_path / "a.dcm").write_bytes(infer(hospital, hospital.series["oblique"], output="rtstruct").content)
    contours = read_structures(tmp_path / "a.dcm", hospital.files("oblique"), ORGANS)
    np.testing.assert_array_equal(contours.numpy(), found.numpy())
    upload = {"file": ("a.nii.gz", b"no image")}
    answer = requests.post(f"{hospital.server.url}/infer/seeing?output=dicom_seg", files=upload, timeout=60)
    assert answer.status_code == 400
    assert "series of a PACS" in answer.json()["detail"]


def test_label_made_elsewhere_is_taken(hospital):
    """Another workstation, with other numbers for the organs, two organs less and one segment more."""
    hospital.add("automatic", like="coronal", PatientID="P13")
    uid = hospital.add("elsewhere", like="coronal", PatientID="P10")
    labels, affine = hospital.truth["elsewhere"]
    other = ModelSpec(name="workstation", network=NETWORK, labels={"tumour": 1, "bladder": 2, "Liver": 3})
    theirs = np.select([labels == 1, labels == 4, labels == 3], [3, 2, 1], 0).astype(np.uint8)
    completed = hospital.server.get("/info/").json()["datastore"]["completed"]
    for stack, kind in (("automatic", "AUTOMATIC"), ("elsewhere", "SEMIAUTOMATIC")):
        dataset = write_segmentation(
            theirs,
            hospital.files(stack),
            other,
            hospital.folder / "theirs.dcm",
            affine=affine,
            algorithm_type=kind,
            reviewer="Poe^Ann",
        )
        dataset.Manufacturer = "Workstation"
        hospital.client.store([dataset])
    hospital.wait(lambda: hospital.server.get("/info/").json()["datastore"]["completed"] > completed)
    images = hospital.server.get("/worklist/").json()["images"]
    assert images[uid]["state"] == "corrected"
    assert images[hospital.series["automatic"]]["state"] == "unlabelled"  # nobody has looked at it
    answer = hospital.server.get(f"/datastore/label?label={uid}&tag=final")
    (hospital.folder / "taken.nii.gz").write_bytes(answer.content)
    taken = nib.load(hospital.folder / "taken.nii.gz")
    found = in_ras(MetaTensor(np.asarray(taken.dataobj)[None], taken.affine))
    np.testing.assert_array_equal(found[0], in_ras(MetaTensor(theirs[None], affine))[0])
    info = hospital.server.get(f"/datastore/label/info?label={uid}&tag=final").json()
    assert info["client_id"] == "Poe^Ann"
    assert {item["name"]: item["idx"] for item in info["label_info"]} == {"tumour (1)": 1, "bladder": 2, "liver": 3}
    assert hospital.segmentations("elsewhere") == []  # theirs is not sent back as ours
    assert hospital.submit("automatic", labels)["pacs"] == "stored"


def test_training_on_labels_of_the_pacs(hospital):
    options = {"max_epochs": 1, "iterations_per_epoch": 1, "device": "cpu", "promote": "never"}
    hospital.slicer().train_start("seeing", options)
    assert hospital.server.wait_for_training()["status"] == "DONE", hospital.server.get("/train/").json()
    record = hospital.server.get("/versions/seeing").json()["versions"][-1]
    assert record["left_out"] == {}
    assert sorted(record["training"] + record["validation"]) == sorted(hospital.series.values())
    assert any("tumour" in warning for warning in record["warnings"])


def test_next_sample_can_be_opened_by_slicer(hospital):
    """Its downloader takes the format from the name's ending."""
    uid = hospital.add("next", like="sagittal", PatientID="P12")
    hospital.wait(lambda: uid in hospital.server.get("/worklist/").json()["images"])
    sample = hospital.slicer("eve").next_sample("random", {})
    assert (sample["id"], sample["name"], sample["path"]) == (uid, f"{uid}.nii.gz", "")
    assert sample["PatientID"] == "P12"


def test_stored_label_as_dicom(hospital, tmp_path):
    url = f"{hospital.server.url}/pacs/labels/{hospital.series['oblique']}"
    dataset = hospital.segmentations("oblique")[-1]
    for output, read in (("dicom_seg", read_segmentation), ("rtstruct", read_structures)):
        answer = requests.get(url, params={"output": output}, timeout=60)
        assert answer.headers["content-type"] == "application/dicom", answer.text
        (tmp_path / "a.dcm").write_bytes(answer.content)
        found = read(tmp_path / "a.dcm", hospital.files("oblique"), ORGANS)
        stored = read_segmentation(dataset, hospital.files("oblique"), ORGANS)
        np.testing.assert_array_equal(found.numpy(), stored.numpy())
    assert pydicom.dcmread(tmp_path / "a.dcm").OperatorsName == "Roe^Jane"
    for path, status in (("1.2.3", 404), (f"{hospital.series['oblique']}?tag=x", 400)):
        assert hospital.server.get(f"/pacs/labels/{path}").status_code == status
    assert hospital.server.get(f"/pacs/labels/{hospital.series['elsewhere']}?tag=original").status_code == 404


def test_viewer_asks_through_the_server(hospital):
    proxy = f"{hospital.server.url}/proxy/dicom/qido"
    assert len(requests.get(f"{proxy}/series?Modality=MR", timeout=60).json()) == len(hospital.series)
    assert requests.get(f"{proxy}/series?Modality=US", timeout=60).json() == []
    assert len(requests.get(f"{proxy}/studies?limit=2&offset=1", timeout=60).json()) == 2
    header = pydicom.dcmread(hospital.files("coronal")[0])
    place = f"studies/{header.StudyInstanceUID}/series/{header.SeriesInstanceUID}/instances/{header.SOPInstanceUID}"
    accept = {"Accept": 'multipart/related; type="application/octet-stream"'}
    frame = requests.get(f"{hospital.server.url}/proxy/dicom/wado/{place}/frames/1", headers=accept, timeout=60)
    assert header.PixelData in frame.content
    for path in ("patients", "../instances", "studies/..", "%2e%2e/system", "studies//series", "system"):
        assert requests.get(f"{proxy}/{path}", timeout=60).status_code in (400, 404, 422), path
    refused = requests.post(f"{proxy}/studies", data=b"{}", headers={"Content-Type": "application/json"}, timeout=60)
    assert refused.status_code == 400


def test_store_and_read_through_the_server(hospital, tmp_path):
    """What a viewer stores, and frames of one bit a pixel that do not end with a byte: 5 x 5."""
    affine = np.diag([1.5, 1.5, 4, 1])
    files = write_series(tmp_path / "small", np.zeros((5, 5, 3)), affine, **{**COMPLETE, "Modality": "CT"})
    viewer = PacsClient(PacsConnection(f"{hospital.server.url}/proxy/dicom/wado"))
    send(viewer, files)
    labels = (np.arange(75) % 7 % 2).reshape(5, 5, 3)
    dataset = write_segmentation(labels, files, hospital.spec, tmp_path / "a.dcm", affine=affine)
    viewer.store([dataset])
    uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
    assert viewer.instance(*uids).PixelData == dataset.PixelData
    place = "studies/{}/series/{}/instances/{}/frames/2".format(*uids)
    answer = requests.get(f"{viewer.url}/{place}", timeout=60)
    assert answer.status_code == 200, answer.text
    body = answer.content.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
    bits = np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")[:25].reshape(5, 5)
    np.testing.assert_array_equal(bits, dataset.pixel_array[1])


def test_series_that_still_arrives_is_fetched_again(hospital):
    """Its second half comes by the command, through the server."""
    files, labels, _ = write_stack(hospital.folder / "arriving", "axial ascending", PatientID="P11")
    uid = send(hospital.client, files[:8])
    assert hospital.server.get(f"/datastore/image?image={uid}").status_code == 200
    late = hospital.folder / "late"
    late.mkdir()
    for file in files[8:]:
        file.rename(late / file.name)
    sending = ("-m", "monailabel_app.pacs", "send")
    run = command(str(late), "--studies", f"{hospital.server.url}/proxy/dicom/wado", program=sending)
    assert f"{len(files) - 8} instances stored" in run.stdout, run.stderr
    (hospital.folder / "whole.nii.gz").write_bytes(hospital.server.get(f"/datastore/image?image={uid}").content)
    assert nib.load(hospital.folder / "whole.nii.gz").shape == labels.shape


def test_every_request_of_the_schema(hospital):
    """With values that nobody expects; it deletes labels, so it comes last."""
    series = list(hospital.series.values())[:2]
    fuzz(hospital.server, {**KNOWN, "model": ["seeing"], "image": series, "label": series, "id": series})


def test_addresses_without_a_schema(hospital):
    fuzz_paths(hospital.server)


def test_nothing_of_the_patients_in_the_log(hospital):
    text = (hospital.server.data_dir / "logs" / "server.log").read_text()
    assert "DOE" not in text
    assert "Roe" not in text
