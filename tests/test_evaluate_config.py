"""The evaluation config, laid over the inference config, from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers_bundle import AFFINE, BUNDLE, LABELS, volume, write_cases, write_model
from helpers_imaging import write_nifti
from monai.bundle import ConfigWorkflow
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.workflows import evaluate_model

REPORT_KEYS = ["mean", "organs", "cases", "failed", "rules", "tolerances_mm", "definitions", "model", "data"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    return write_cases(tmp_path / "data", {"test": 2})


def evaluate(folder: Path, model: Path, datalist: Path, **overrides: Any) -> dict[str, Any]:
    settings = {"device": "cpu", **overrides}
    try:
        return evaluate_model(bundle_root=BUNDLE, model=model, datalist=datalist, output_dir=folder, **settings)
    except RuntimeError as error:
        raise input_error_of(error) or error from None


def test_metrics_are_as_documented(tmp_path, model, datalist, capsys):
    report = evaluate(tmp_path / "out", model, datalist)
    assert report == json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert list(report) == [*REPORT_KEYS, "code_version"]
    assert set(report["mean"]) == {"dice", "nsd"}
    assert list(report["organs"]) == list(LABELS)
    for scores in report["organs"].values():
        assert set(scores) == {"dice", "nsd"}
        for spread in scores.values():
            assert set(spread) == {"mean", "std", "n"}
            assert spread["n"] == 2
            assert 0 <= spread["mean"] <= 1
    assert [case["case"] for case in report["cases"]] == ["test0", "test1"]
    by_hand = np.mean([case["organs"]["liver"]["dice"] for case in report["cases"]])
    assert report["organs"]["liver"]["dice"]["mean"] == pytest.approx(by_hand)
    means = [scores["nsd"]["mean"] for scores in report["organs"].values()]
    assert report["mean"]["nsd"] == pytest.approx(np.mean(means))
    assert report["failed"] == []
    assert report["model"] == {"name": "tiny", "version": "0.1.0", "licence": "unknown"}
    assert report["data"] == {"datalist": str(datalist), "section": "test"}
    assert "mean of organs" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    pictures = {f"test{n}_{part}" for n in range(2) for part in ("seg.nii.gz", "overlay.png")}
    assert names == pictures | {"metrics.json", "metrics.csv", "metrics.png", "report.json", "volumes.csv"}


def test_scores_are_those_of_the_written_label_maps(tmp_path, model, datalist):
    report = evaluate(tmp_path / "out", model, datalist)
    found = np.asarray(nib.load(tmp_path / "out" / "test0_seg.nii.gz").dataobj) == LABELS["liver"]
    truth = np.asarray(nib.load(datalist.with_name("test0_label.nii.gz")).dataobj) == LABELS["liver"]
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert report["cases"][0]["organs"]["liver"]["dice"] == pytest.approx(dice)


def test_a_model_with_other_ids_is_scored_by_name(tmp_path, datalist):
    turned = {"spleen": 1, "liver": 2}
    report = evaluate(tmp_path / "out", write_model(tmp_path / "model", turned), datalist, save_predictions=True)
    found = np.asarray(nib.load(tmp_path / "out" / "test0_seg.nii.gz").dataobj) == turned["liver"]
    truth = np.asarray(nib.load(datalist.with_name("test0_label.nii.gz")).dataobj) == LABELS["liver"]
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert report["cases"][0]["organs"]["liver"]["dice"] == pytest.approx(dice)


def test_organs_that_are_not_annotated_are_left_out_and_absent_ones_are_null(tmp_path, model):
    partial = write_cases(tmp_path / "partial", {"test": 2}, labelled=["liver"])
    report = evaluate(tmp_path / "out", model, partial, save_predictions=False)
    assert [list(case["organs"]) for case in report["cases"]] == [["liver"]] * 2
    assert report["organs"].get("spleen", {"dice": {"n": 0}})["dice"]["n"] == 0

    full = write_cases(tmp_path / "full", {"test": 2})
    labels = volume(0)[1]
    labels[labels == LABELS["spleen"]] = 0
    write_nifti(full.with_name("test0_label.nii.gz"), labels, AFFINE)
    report = evaluate(tmp_path / "absent", model, full, save_predictions=False)
    assert report["cases"][0]["organs"]["spleen"] == {"dice": None, "nsd": None}
    assert report["organs"]["spleen"]["dice"]["n"] == 1
    assert report["organs"]["spleen"]["dice"]["std"] is None


def test_rules_of_the_paper_and_own_tolerances(tmp_path, model, datalist):
    report = evaluate(tmp_path / "out", model, datalist, rules="paper", tolerances={"liver": 1.5})
    assert report["rules"] == "paper"
    assert report["tolerances_mm"]["liver"] == 1.5
    for case in report["cases"]:
        for scores in case["organs"].values():
            assert scores == {metric: round(score, 4) for metric, score in scores.items()}


def test_predictions_need_not_be_kept(tmp_path, model, datalist):
    evaluate(tmp_path / "out", model, datalist, save_predictions=False)
    assert not list((tmp_path / "out").glob("test*"))
    assert (tmp_path / "out" / "metrics.csv").is_file()


def test_a_broken_case_is_told_and_the_others_are_scored(tmp_path, model, datalist):
    datalist.with_name("test0.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 of 2 cases failed: test0: .*cannot be read"):
        evaluate(tmp_path / "out", model, datalist)
    report = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert [case["case"] for case in report["cases"]] == ["test1"]
    assert [case["case"] for case in report["failed"]] == ["test0"]


BAD_SETTINGS = [
    ({"section": "validation"}, "section 'validation' has no cases; there are training (0 cases)"),
    ({"section": "tests"}, "section 'tests' does not exist; there are training (0 cases)"),
    ({"rules": "papers"}, "papers"),
    ({"tolerances": {"lever": 1}}, "lever"),
    ({"tolerances": {"liver": -1}}, "-1"),
    ({"scan_backend": "fast"}, "scan_backend must be one of auto, cpu, cuda, triton, mamba_ssm, reference, not 'fast'"),
    ({"device": "cuda:99"}, "device 'cuda:99' is not in this machine; legal here: auto, cpu"),
    ({"displayable_configs#overlap": 1.5}, "overlap 1.5: legal: 0 to below 1"),
]


@pytest.mark.parametrize(("setting", "message"), BAD_SETTINGS, ids=[str(setting) for setting, _ in BAD_SETTINGS])
def test_bad_settings_are_refused_and_nothing_is_written(tmp_path, model, datalist, setting, message):
    with pytest.raises(InputError) as caught:
        evaluate(tmp_path / "out", model, datalist, **setting)
    assert message in str(caught.value)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_model_of_other_organs_is_refused(tmp_path, datalist):
    with pytest.raises(InputError, match="heart"):
        evaluate(tmp_path / "out", write_model(tmp_path / "model", {"heart": 1}), datalist)


def test_a_label_map_of_another_grid_is_a_failed_case(tmp_path, model):
    datalist = write_cases(tmp_path / "data", {"test": 3})
    moved = AFFINE.copy()
    moved[0, 3] += 10
    write_nifti(datalist.with_name("test0_label.nii.gz"), volume(0)[1], moved)
    write_nifti(datalist.with_name("test1_label.nii.gz"), volume(0)[1][:, :, :4], AFFINE)
    with pytest.raises(InputError) as caught:
        evaluate(tmp_path / "out", model, datalist)
    assert str(caught.value).startswith("2 of 3 cases failed: test0: label map ")
    assert "its corners lie 10 mm away" in str(caught.value)
    assert "(40, 36, 4) voxels, not (40, 36, 5)" in str(caught.value)


def test_items_may_be_given_as_a_plain_list(tmp_path, model, datalist):
    files = {"image": "test0.nii.gz", "label": "test0_label.nii.gz"}
    items = [{key: str(datalist.with_name(name)) for key, name in files.items()}]
    workflow = ConfigWorkflow(
        [str(BUNDLE / "configs" / name) for name in ("inference.yaml", "evaluate.yaml")],
        workflow_type="evaluation",
        logging_file=False,
        run_id="evaluate",
        **{"bundle_root": str(BUNDLE), "model": str(model), "device": "cpu", "output_dir": str(tmp_path / "out")},
        **{"dataset#data": items, "datalist": "none"},
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()
    report = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert [list(case["organs"]) for case in report["cases"]] == [list(LABELS)]
