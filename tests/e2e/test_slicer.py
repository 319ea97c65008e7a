"""What 3D Slicer does, by its own client, against a real server on a folder."""

from __future__ import annotations

import json
import time

import nibabel as nib
import numpy as np
import pytest
import requests
import SimpleITK as sitk
from helpers_bundle import AFFINE, LABELS, SHAPE, volume, write_model
from helpers_imaging import write_nifti
from helpers_server import serve, write_studies
from monailabel.client import MONAILabelClient

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def client_of(server, name="alice"):
    """Return a client that says who it is, as Slicer does."""
    return MONAILabelClient(server.url, tmpdir=str(server.data_dir), client_id=name)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with six images; the tests go through one day in their order."""
    folder = tmp_path_factory.mktemp("slicer")
    write_model(folder / "models" / "tiny")
    options = ("--validation-share", "0.5", "--uncertainty-model", "tiny")
    with serve(write_studies(folder / "studies", 6), folder / "models", *options) as running:
        yield running


def test_day_of_an_annotator(server, tmp_path):
    client = client_of(server)
    # connect
    info = client.info()
    assert info["models"]["tiny"]["labels"] == LABELS
    assert info["models"]["tiny"]["dimension"] == 3
    assert info["datastore"] == {"total": 6, "completed": 0, "label_tags": {}}
    # next sample, and nobody else gets it
    sample = client.next_sample("first", {})
    assert sample["id"] == "case_0"
    assert sample["path"] == str(server.studies / "case_0.nii.gz")
    assert client_of(server, "bob").next_sample("first", {})["id"] == "case_1"
    assert client.next_sample("first", {})["id"] == "case_2"  # asked again: the first was passed over
    # segment
    params = {"device": ["cpu"], "mirror": False, "largest_component": False, "slices": ""}
    file, result = client.infer("tiny", "case_0", {**params, "result_extension": ".nrrd", "result_dtype": "uint8"})
    assert result["labels"] == LABELS
    values = sorted(set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(file)))) - {0})
    assert list(result["label_names"].values()) == values  # the n-th name is that of the n-th segment in Slicer
    assert result["model_version"] == "0.1.0"
    image, label = sitk.ReadImage(str(server.studies / "case_0.nii.gz")), sitk.ReadImage(file)
    assert label.GetSize() == image.GetSize()
    assert label.GetSpacing() == pytest.approx(image.GetSpacing())
    assert label.GetOrigin() == pytest.approx(image.GetOrigin())
    assert label.GetDirection() == pytest.approx(image.GetDirection())
    # submit corrections, with segments in another order than the model's
    for number in range(4):
        truth = volume(seed=100 + number)[1]
        swapped = np.where(truth == 1, 2, np.where(truth == 2, 1, 0)).astype(np.uint8)
        path = tmp_path / f"label_{number}.nii.gz"
        write_nifti(path, swapped, AFFINE)
        order = [{"name": "spleen", "idx": 1}, {"name": "liver", "idx": 2}]
        answer = client.save_label(f"case_{number}", str(path), params={"label_info": order, "model": "tiny"})
        assert answer["label"] == f"case_{number}"
    assert client.info()["datastore"]["completed"] == 4


def test_uncertainty_is_worked_out_in_the_background(server):
    """Of the images that nobody has labelled; it began with the server."""
    for _ in range(240):
        known = json.loads((server.data_dir / "uncertainty.json").read_text()) if uncertainties(server) else {}
        if {"case_4", "case_5"} <= set(known):
            break
        time.sleep(0.25)
    about = server.get("/info/").json()["scoring"]["uncertainty"]
    assert (about["model"], about["model_version"], about["images"]) == ("tiny", "0.1.0", len(known))
    assert {version for _, version in known.values()} == {"0.1.0"}
    values = {image: known[image][0] for image in ("case_4", "case_5")}
    assert all(0 < value <= 1 for value in values.values())
    assert client_of(server, "eve").next_sample("uncertainty", {})["id"] == max(values, key=values.get)


def uncertainties(server):
    """Tell whether any uncertainty is known."""
    return (server.data_dir / "uncertainty.json").is_file()


def test_training_on_what_was_submitted(server):
    client = client_of(server)
    client.train_start("tiny", {"max_epochs": 2, "iterations_per_epoch": 2, "device": ["cpu"], "pretrained": True})
    assert client.train_status(check_if_running=True)
    assert server.wait_for_training()["status"] == "DONE", server.get("/train/").json()
    assert not client.train_status(check_if_running=True)
    stats = client.info()["train_stats"]["tiny"]
    assert (stats["epoch"], stats["total_epochs"]) == (2, 2)
    assert stats["total_time"] > 0  # Slicer takes it for a training that is over
    assert 0 <= stats["best_metric"] <= 1
    rows = server.get("/versions/tiny").json()["versions"]
    assert [row["version"] for row in rows] == ["0.1.0", "0.1.1"]
    record = rows[1]
    assert record["training"]
    assert record["validation"]
    assert sorted(record["training"] + record["validation"]) == [f"case_{number}" for number in range(4)]
    assert record["left_out"] == {}
    assert record["served"] is record["not_worse"] is (record["dice"]["new"] >= record["dice"]["served"])
    # labels were learnt by name, whatever their values were
    learnt = nib.load(next(server.data_dir.glob("training/tiny/run-*/labels/case_0.nii.gz")))
    np.testing.assert_array_equal(np.asarray(learnt.dataobj), volume(seed=100)[1])
    # what was learnt answers now, or after a promotion
    server_version = client.info()["models"]["tiny"]["version"]
    assert server_version == ("0.1.1" if record["served"] else "0.1.0")


def test_promotion_and_rollback(server):
    """Needs the version that was trained before."""
    client = client_of(server)
    for request, served in (
        ("promote?version=0.1.1", "0.1.1"),
        ("rollback", "0.1.0"),
        ("promote?version=0.1.1", "0.1.1"),
    ):
        answer = requests.post(f"{server.url}/versions/tiny/{request}", json={"by": "alice"}, timeout=60)
        assert answer.json() == {"served": served}
        assert client.infer("tiny", "case_0", {"result_extension": ".nii.gz"})[1]["model_version"] == served
    history = server.get("/versions/tiny").json()["history"]
    assert [entry["version"] for entry in history][-2:] == ["0.1.0", "0.1.1"]
    unknown = requests.post(f"{server.url}/versions/tiny/promote?version=9.9.9", json={"by": "alice"}, timeout=60)
    assert unknown.status_code == 404
    assert "0.1.1" in unknown.json()["detail"]


def test_slices_keep_the_rest(server):
    """Of a corrected label only one slice is segmented anew; the others keep their organs, whatever their values."""
    client = client_of(server)
    file, _ = client.infer("tiny", "case_1", {"slices": "2", "result_extension": ".nii.gz"})
    whole, _ = client.infer("tiny", "case_1", {"result_extension": ".nii.gz"})
    found, everything = (np.asarray(nib.load(path).dataobj) for path in (file, whole))
    stored = volume(seed=101)[1]  # was submitted with its values exchanged
    np.testing.assert_array_equal(found[..., 2], everything[..., 2])
    others = [z for z in range(SHAPE[2]) if z != 2]
    np.testing.assert_array_equal(found[..., others], stored[..., others])


def test_audit_tells_who(server):
    lines = [json.loads(line) for line in (server.data_dir / "audit.jsonl").read_text().splitlines()]
    saved = [line for line in lines if line["action"] == "save label"]
    assert {line["by"] for line in saved} == {"alice"}
    assert [line["image"] for line in saved] == [f"case_{number}" for number in range(4)]
    assert all(line["digest"] for line in saved)
    progress = server.get("/worklist/").json()["progress"]
    assert progress["people"] == {"alice": {"corrected": 4, "reviewed": 0}}
    assert (progress["corrected"], progress["unlabelled"]) == (4, 2)
