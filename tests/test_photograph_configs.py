"""Endoscopy and microscopy from the data set as distributed to scores: the overlays, on small generated photographs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers_bundle import BUNDLE, ROOT, TINY, write_model
from helpers_photographs import CELLS, FRAME, frame_of, save, types_of, write_cells, write_endovis
from monai.bundle import ConfigWorkflow
from PIL import Image
from skimage.measure import label as connected_pieces
from swin_umamba.data.__main__ import main
from swin_umamba.data.labels import label_table
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.models import load_model
from swin_umamba.photographs import read_photograph
from swin_umamba.workflows import evaluate_model, run_workflow

COLOUR = {"in_channels": 3}
TOOLS, CELL_CLASSES = label_table("endovis17"), label_table("neurips_cellseg")
SMALL = {  # what TINY does not say already; labels, channels, modality and rules are the overlay's
    **{key: value for key, value in TINY.items() if key != "labels"},
    "precision": "float32",
    "evaluate_after_training": True,
}


@pytest.fixture(scope="module")
def endovis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endovis")
    source = write_endovis(folder / "source", test_frames=2)
    main(["datalist", "endovis17", str(source), "--output", str(folder / "a.json"), "--validation_patients", "07"])
    return folder / "a.json"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cells")
    main(["datalist", "cellseg", str(write_cells(folder / "source")), "--output", str(folder / "a.json")])
    return folder / "a.json"


def train(overlay: str, folder: Path, datalist: Path, **settings: Any) -> ConfigWorkflow:
    places = {"datalist": str(datalist), "model_dir": str(folder / "model"), "output_dir": str(folder / "out")}
    workflow = ConfigWorkflow(
        config_file=[str(BUNDLE / "configs/train.yaml"), str(ROOT / "configs" / overlay)],
        workflow_type="train",
        logging_file=False,
        run_id="training",
        **{**SMALL, **places, **settings},
    )
    try:
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    except RuntimeError as error:
        raise input_error_of(error) or error from None
    return workflow


def evaluate(folder: Path, model: Path, datalist: Path, **settings: Any) -> dict[str, Any]:
    return evaluate_model(
        bundle_root=BUNDLE, model=model, datalist=datalist, output_dir=folder, **{"device": "cpu", **settings}
    )


def infer(folder: Path, model: Path, images: Path, **settings: Any) -> None:
    settings = {"model": str(model), "dataset_dir": str(images), "output_dir": str(folder), "device": "cpu", **settings}
    try:
        run_workflow(["inference.yaml"], bundle_root=BUNDLE, **settings)
    except RuntimeError as error:
        raise input_error_of(error) or error from None


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_endoscopy_from_frames_to_scores(tmp_path, endovis):
    workflow = train("endoscopy.yaml", tmp_path, endovis)
    batch = workflow.trainer.state.batch[0]
    assert batch["image"].shape == (3, 32, 32)
    spec = load_model(tmp_path / "model").spec
    assert (spec.labels, spec.modality, spec.in_channels, spec.instances) == (TOOLS, "ES", 3, None)
    report = json.loads((tmp_path / "out" / "test" / "metrics.json").read_text(encoding="utf-8"))
    assert report["rules"] == "per_image"
    assert set(report["tolerances_mm"].values()) == {2.0}
    by_hand = [case["mean"]["dice"] for case in report["cases"]]
    assert report["mean"]["dice"] == pytest.approx(np.mean(by_hand))
    assert len(by_hand) == 2
    names = {path.name for path in (tmp_path / "out" / "test").iterdir()}
    assert {"endovis17_01_frame225_seg.png", "endovis17_01_frame225_overlay.png", "areas.csv"} <= names
    assert "volumes.csv" not in names


def test_microscopy_from_images_to_f1(tmp_path, cells):
    train("microscopy.yaml", tmp_path, cells, cache_rate=1.0)
    spec = load_model(tmp_path / "model").spec
    assert (spec.labels, spec.modality, spec.in_channels, spec.instances) == (CELL_CLASSES, "GM", 3, "interior")
    assert spec.training["images"] == {"count": 3}
    report = json.loads((tmp_path / "out" / "test" / "metrics.json").read_text(encoding="utf-8"))
    assert report["instances"]["truth"] == 6
    assert 0 <= report["instances"]["f1"] <= 1
    (row,) = table(tmp_path / "out" / "test" / "instances.csv")
    assert (row["case"], row["truth"]) == ("test_cell_00001", "6")


class Painter(torch.nn.Module):
    """Say of each pixel what a brightness of red stands for; a stand-in for a trained network."""

    def __init__(self, levels: list[float]) -> None:
        super().__init__()
        self.levels = torch.tensor(levels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -((x[:, :1] - self.levels.view(1, -1, 1, 1)) ** 2)


def painter(monkeypatch: pytest.MonkeyPatch, levels: list[float]) -> None:
    """Let every model that is loaded be a painter that sees the pixels' own values, 0 to 255."""
    monkeypatch.setattr("swin_umamba.models.build_described_network", lambda spec, **_: Painter(levels))
    monkeypatch.setattr("swin_umamba.models.load_checkpoint", lambda network, path: None)


PLAIN = {"preprocessing#transforms#5": {"_target_": "Identityd", "keys": "image"}}  # no z-score


def test_preprocessing_that_the_painter_goes_without_is_the_z_score():
    config = yaml.safe_load((BUNDLE / "configs" / "inference.yaml").read_text(encoding="utf-8"))
    step = config["preprocessing"]["transforms"][5]
    assert step == {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}


def test_perfect_frames_score_1_and_label_maps_lie_as_the_frames_do(tmp_path, endovis, monkeypatch):
    model = write_model(tmp_path / "model", TOOLS, modality="ES", network=network(), roi_size=(640, 384))
    painter(monkeypatch, [85.0, *(250.0 - 30 * tool for tool in range(1, 8))])
    report = evaluate(tmp_path / "out", model, endovis, rules="per_image", **PLAIN)
    assert report["mean"] == {"dice": 1.0, "nsd": 1.0}
    found = read_photograph(tmp_path / "out" / "endovis17_01_frame225_seg.png")
    assert found.shape == FRAME
    np.testing.assert_array_equal(found, types_of(1, frame_of(1, 5)[1]))


def network() -> dict[str, Any]:
    return {"name": "swin_umamba_d_tiny", "arguments": COLOUR}


def test_cells_are_numbered_counted_and_matched(tmp_path, cells, monkeypatch):
    model = write_model(tmp_path / "model", CELL_CLASSES, modality="GM", instances="interior", network=network())
    painter(monkeypatch, [70.0, 190.0, 1e6])
    report = evaluate(tmp_path / "out", model, cells, **PLAIN)
    (case,) = report["cases"]
    assert case["instances"] == {
        **{"f1": 1.0, "precision": 1.0, "recall": 1.0},
        **{"matched": 6, "found": 6, "truth": 6},  # of the file of numbered cells, not of its interiors
    }
    infer(tmp_path / "found", model, cells.parent / "source" / "Testing", **PLAIN)
    folder = tmp_path / "found"
    assert {path.name for path in folder.iterdir()} == {
        *("Public_images_cell_00001_seg.png", "Public_images_cell_00001_instances.tif"),
        *("Public_images_cell_00001_overlay.png", "report.json", "areas.csv", "counts.csv"),
    }
    labels = read_photograph(folder / "Public_images_cell_00001_seg.png")
    numbers = read_photograph(folder / "Public_images_cell_00001_instances.tif")
    assert labels.shape == CELLS
    np.testing.assert_array_equal(numbers, connected_pieces(labels == 1))
    (row,) = table(folder / "counts.csv")
    sizes = np.bincount(numbers.ravel())[1:]
    assert row == {"case": "Public_images_cell_00001", "count": "6", "median_pixels": str(np.median(sizes))}
    areas = {row["label"]: int(row["pixels"]) for row in table(folder / "areas.csv")}
    assert areas == {"interior": int((labels == 1).sum()), "boundary": 0}
    assert Image.open(folder / "Public_images_cell_00001_overlay.png").size[0] > 500


def test_folder_of_every_format_and_a_broken_file(tmp_path):
    model = write_model(tmp_path / "model", TOOLS, modality="ES", network=network())
    frame = frame_of(1, 0)[0]
    for name in ("a.png", "b.jpg", "c.jpeg", "d.tif", "e.tiff", "f.bmp"):
        save(tmp_path / "in" / name, frame)
    save(tmp_path / "in" / "grey.png", frame[..., 0])
    (tmp_path / "in" / "broken.png").write_text("no image")
    with pytest.raises(InputError, match=r"1 of 8 cases failed: broken: broken\.png cannot be read: it is no such"):
        infer(tmp_path / "out", model, tmp_path / "in", doubtful=0.0)
    written = sorted(path.name for path in (tmp_path / "out").glob("*_seg.png"))
    assert written == [f"{name}_seg.png" for name in ("a", "b", "c", "d", "e", "f", "grey")]
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [case["warnings"] for case in report["cases"] if case["status"] == "ok"] == [[]] * 7
    same = [read_photograph(tmp_path / "out" / f"{name}_seg.png") for name in "adef"]
    assert all((labels == same[0]).all() for labels in same)


def test_formats_that_photographs_do_not_have_are_refused(tmp_path):
    model = write_model(tmp_path / "model", TOOLS, modality="ES", network=network())
    save(tmp_path / "in" / "a.png", frame_of(1, 0)[0])
    with pytest.raises(InputError, match=r"output_format dicom_seg needs a DICOM series and a\.png is none"):
        infer(tmp_path / "out", model, tmp_path / "in", output_format="dicom_seg")


BAD = {
    "channels": ({"network_arguments": {"in_channels": 1}}, "3 channels .* legal is one grey-scale volume"),
    "instances": ({"instances": "nucleus"}, "instances: 'nucleus'; legal: null, bipolar forceps"),
    "rules": ({"rules": "per_frame"}, "rules is 'per_frame'; legal: standard, paper, per_image"),
}


@pytest.mark.parametrize(("settings", "message"), BAD.values(), ids=BAD)
def test_bad_settings_are_named(tmp_path, endovis, settings, message):
    with pytest.raises(InputError, match=message):
        train("endoscopy.yaml", tmp_path, endovis, **settings)


def test_true_cells_of_another_size_are_a_failed_case(tmp_path, cells):
    plain = json.loads(cells.read_text(encoding="utf-8"))
    plain["test"][0]["instances"] = str(save(tmp_path / "other.png", np.zeros((8, 8), np.uint8)))
    datalist = cells.with_name("other.json")
    datalist.write_text(json.dumps(plain), encoding="utf-8")
    model = write_model(tmp_path / "model", CELL_CLASSES, modality="GM", instances="interior", network=network())
    with pytest.raises((InputError, RuntimeError)) as caught:
        evaluate(tmp_path / "out", model, datalist, save_predictions=False)
    assert "true ones of (8, 8)" in str(input_error_of(caught.value))
