from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers_imaging import PAINTED, affine_of, painted_volume, ramp, write_nifti
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.transforms import Orientation
from swin_umamba.errors import InputError
from swin_umamba.label_maps import organ_volumes, save_label_map
from swin_umamba.outputs import CaseReport, CaseWriter
from swin_umamba.pictures import draw_case, on_screen, slices_to_show


def label_map(labels: np.ndarray, affine: np.ndarray, source: Path | str = "DICOM series mr_1") -> MetaTensor:
    return MetaTensor(
        torch.from_numpy(labels)[None], affine=torch.from_numpy(affine), meta={"filename_or_obj": str(source)}
    )


def odd_nifti(path: Path, sform_code: int, qform_code: int) -> nib.Nifti1Image:
    """Write an image whose sform and qform differ, with the codes given; return it as read."""
    image = nib.Nifti1Image(ramp(painted_volume()), None)
    image.set_qform(affine_of("LPS", (1.5, 1.25, 4.0), 9), qform_code)
    image.set_sform(affine_of("LAS", (1.5, 1.25, 4.0), 17), sform_code)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(2.5, -7.0)
    nib.save(image, path)
    return nib.load(path)


@pytest.mark.parametrize(("sform_code", "qform_code"), [(1, 1), (2, 0), (0, 1), (0, 0), (4, 2)])
def test_both_forms_of_a_nifti_image_are_kept_bit_by_bit(tmp_path: Path, sform_code: int, qform_code: int) -> None:
    source = odd_nifti(tmp_path / "a.nii.gz", sform_code, qform_code)
    labels = painted_volume()
    save_label_map(tmp_path / "a_seg.nii.gz", label_map(labels, source.affine, tmp_path / "a.nii.gz"))
    written = nib.load(tmp_path / "a_seg.nii.gz")
    np.testing.assert_array_equal(written.affine, source.affine)
    for form in ("get_sform", "get_qform"):
        (affine, code), (expected, expected_code) = (getattr(i, form)(coded=True) for i in (written, source))
        assert code == expected_code
        np.testing.assert_array_equal(affine, expected)
    assert written.header.get_data_dtype() == np.uint8
    assert written.dataobj.slope == 1.0
    assert written.dataobj.inter == 0.0
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels)


def test_other_formats_get_the_affine_as_both_forms(tmp_path: Path) -> None:
    affine = affine_of("PIL", (1.5, 1.25, 4.0), 30)
    save_label_map(tmp_path / "a_seg.nii.gz", label_map(painted_volume(), affine))
    written = nib.load(tmp_path / "a_seg.nii.gz")
    for form in (written.get_sform(coded=True), written.get_qform(coded=True)):
        assert form[1] == 1
        np.testing.assert_allclose(form[0], affine, atol=1e-5)
    assert written.header.get_xyzt_units()[0] == "mm"


def test_two_dimensional_image_gets_a_two_dimensional_map(tmp_path: Path) -> None:
    source = write_nifti(tmp_path / "a.nii.gz", np.zeros((5, 4), np.int16), np.diag([2.0, 3, 1, 1]))
    labels = np.arange(20, dtype=np.uint8).reshape(5, 4, 1)
    save_label_map(tmp_path / "a_seg.nii.gz", label_map(labels, np.diag([2.0, 3, 1, 1]), source))
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "a_seg.nii.gz").dataobj), labels[..., 0])


def test_volumes_are_counted_in_millilitres() -> None:
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[:5] = 1
    labels[9, 9, 9] = 3
    volumes = organ_volumes(
        label_map(labels, affine_of("LAS", (2.0, 2.5, 4.0), 40)), {"liver": 1, "spleen": 2, "aorta": 3}
    )
    assert volumes["liver"] == {"ml": 10.0, "voxels": 500}
    assert volumes["spleen"] == {"ml": 0.0, "voxels": 0}
    assert volumes["aorta"] == {"ml": 0.02, "voxels": 1}


def test_writer_leaves_both_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = label_map(painted_volume(), affine_of("RAS", (1.5, 1.25, 4.0)))
    writer = CaseWriter(output_dir=tmp_path / "new", labels=PAINTED)
    record = writer("a", labels.float(), labels)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a_overlay.png", "a_seg.nii.gz"]
    assert record["output"] == "a_seg.nii.gz"
    assert record["volumes"]["right"]["voxels"] == int((painted_volume() == PAINTED["right"]).sum())

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(nib, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        writer("b", labels.float(), labels)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a_overlay.png", "a_seg.nii.gz"]


def test_folder_that_cannot_be_written_to_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to"):
        CaseWriter(output_dir=tmp_path / "file", labels=PAINTED)


def record_of(case: str, **more: object) -> dict:
    volumes = {"liver": {"ml": 1.5, "voxels": 3}}
    return {"case": case, "status": "ok", "output": f"{case}_seg.nii.gz", "volumes": volumes, **more}


def run_report(folder: Path, records: list[dict]) -> tuple[dict, list[list[str]]]:
    engine = Engine(lambda engine, batch: engine.records.append(batch))
    engine.records = []
    CaseReport(output_dir=folder).attach(engine)
    engine.run(records, max_epochs=1)
    with open(folder / "volumes.csv", newline="", encoding="utf-8") as file:
        return json.loads((folder / "report.json").read_text()), list(csv.reader(file))


def test_report_and_table_hold_every_case(tmp_path: Path) -> None:
    failed = {"case": "b", "status": "failed", "reason": "broken"}
    sure = {"case": 0.9, "organs": {"liver": 0.9}}
    report, table = run_report(tmp_path, [record_of("a, b", confidence=sure), failed])
    assert [case["case"] for case in report["cases"]] == ["a, b", "b"]
    assert table == [["case", "organ", "volume_ml", "voxels", "confidence"], ["a, b", "liver", "1.500", "3", "0.900"]]


def test_earlier_cases_stay_while_their_label_maps_are_there(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}_seg.nii.gz").touch()
    run_report(tmp_path, [record_of("a"), record_of("b"), record_of("gone")])
    report, table = run_report(tmp_path, [record_of("b", seconds=2), record_of("c")])
    assert [case["case"] for case in report["cases"]] == ["a", "b", "c"]
    assert report["cases"][1]["seconds"] == 2
    assert [line[0] for line in table[1:]] == ["a", "b", "c"]


def test_foreign_report_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('["mine"]')
    with pytest.raises(InputError, match="no report of ours"):
        run_report(tmp_path, [record_of("a")])
    assert (tmp_path / "report.json").read_text() == '["mine"]'


def test_screen_has_the_patients_right_on_the_left_and_the_front_at_the_top() -> None:
    labels = painted_volume()
    assert slices_to_show(np.zeros_like(labels), PAINTED.values()) == (6, 18, 20)
    axial, coronal, sagittal = slices_to_show(labels, PAINTED.values())
    assert len(np.unique(labels[:, :, axial])) == 4  # background, right, left and front
    view = on_screen(labels[:, :, axial], side=40)
    assert view.shape == (36, 40)  # rows, columns
    right, left, front = (np.argwhere(view == PAINTED[side]).mean(0) for side in ("right", "left", "front"))
    assert right[1] < 20 < left[1]
    assert front[0] < 18
    view = on_screen(labels[:, coronal], side=40)
    assert np.argwhere(view == PAINTED["right"]).mean(0)[1] < 20
    feet = on_screen(labels.max(1), side=40)  # seen from the front
    assert np.argwhere(feet == PAINTED["feet"]).mean(0)[0] > feet.shape[0] / 2
    side = on_screen(labels.max(0), side=36)  # seen from the patient's left
    assert np.argwhere(side == PAINTED["front"]).mean(0)[1] < 18


def test_screen_keeps_proportions() -> None:
    assert on_screen(np.zeros((100, 20)), spacing=(1.0, 10.0), side=200).shape == (200, 100)
    assert on_screen(np.zeros((1, 1)), spacing=(1.0, 10.0), side=20).shape == (20, 2)


@pytest.mark.parametrize("empty", [False, True])
def test_picture_names_the_organs_that_are_there(empty: bool) -> None:
    labels = painted_volume() * (not empty)
    tensor = Orientation("RAS", labels=None)(label_map(labels.astype(np.uint8), affine_of("LPS", (1.5, 1.25, 4.0))))
    organs = {**PAINTED, "absent": 9}
    figure = draw_case("case 7", tensor.float(), tensor, organs, organ_volumes(tensor, organs))
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert [text for text in texts if len(text) == 1] == list("RLAPRLSIAPSI")
    legend = figure.axes[-1].get_legend() or next((a.get_legend() for a in figure.axes if a.get_legend()), None)
    if empty:
        assert legend is None
        assert "no organ found" in texts
    else:
        assert [text.get_text().split(":")[0] for text in legend.get_texts()] == list(PAINTED)
