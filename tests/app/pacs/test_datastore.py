"""Labels of one series, with a PACS that is a folder in the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helpers_dicom import COMPLETE, write_series
from helpers_imaging import write_nifti
from pydicom.dataset import Dataset
from swin_umamba.dicom.segmentation import read_segmentation, write_segmentation
from swin_umamba.errors import InputError
from swin_umamba.models import ModelSpec

from monailabel_app.history import History
from monailabel_app.pacs.cache import SeriesCache
from monailabel_app.pacs.connection import PacsError
from monailabel_app.pacs.datastore import PacsDatastore

AFFINE = np.diag([-1.5, -1.25, 4.0, 1.0])
LABELS = (np.arange(60).reshape(5, 4, 3) % 3).astype(np.uint8)
SPEC = ModelSpec(name="m", network={"name": "swin_umamba_tiny"}, labels={"liver": 1, "spleen": 2})


class Pacs:
    """Does what `PacsClient` does."""

    url = "http://pacs"

    def __init__(self, files: list[Path]) -> None:
        self.images = [pydicom.dcmread(file) for file in files]
        self.segmentations: list[Dataset] = []
        self.down = False

    def _check(self) -> None:
        if self.down:
            raise PacsError("the PACS does not answer", status=503)

    def series(self, filters: dict[str, Any], study: str | None = None) -> dict[str, dict[str, str]]:
        self._check()
        instances = self.segmentations if filters["Modality"] == "SEG" else self.images
        return {
            str(item.SeriesInstanceUID): {
                "StudyInstanceUID": str(item.StudyInstanceUID),
                "PatientID": "4711",
                "NumberOfSeriesRelatedInstances": str(len(self.headers("", item.SeriesInstanceUID))),
            }
            for item in instances
        }

    def one_series(self, uid: str, filters: dict[str, Any]) -> dict[str, str] | None:
        return self.series(filters).get(uid)

    def headers(self, study: str, series: str) -> list[Dataset]:
        self._check()
        return [item for item in (*self.images, *self.segmentations) if item.SeriesInstanceUID == series]

    def fetch(self, study: str, series: str, folder: Path) -> int:
        found = self.headers(study, series)
        for number, item in enumerate(found):
            item.save_as(folder / f"{number}.dcm", write_like_original=False)
        return len(found)

    def instance(self, study: str, series: str, instance: str) -> Dataset:
        return next(item for item in self.headers(study, series) if item.SOPInstanceUID == instance)

    def store(self, datasets: list[Dataset]) -> None:
        self._check()
        self.segmentations += datasets


@pytest.fixture
def pacs(tmp_path: Path) -> Pacs:
    return Pacs(write_series(tmp_path / "dicom", LABELS.astype(float), AFFINE, **COMPLETE))


def open_store(tmp_path: Path, pacs: Pacs) -> PacsDatastore:
    cache = SeriesCache(tmp_path / "data" / "pacs" / "series")
    history, organs = History(tmp_path / "data"), SPEC.labels
    return PacsDatastore(
        pacs, tmp_path / "data" / "pacs", history, lambda _: SPEC, lambda: organs, {"Modality": "MR"}, cache
    )


@pytest.fixture
def store(tmp_path: Path, pacs: Pacs) -> PacsDatastore:
    found = open_store(tmp_path, pacs)
    found.update()
    return found


def uid_of(pacs: Pacs) -> str:
    return str(pacs.images[0].SeriesInstanceUID)


def submit(store: PacsDatastore, pacs: Pacs, tmp_path: Path, labels: np.ndarray = LABELS) -> None:
    file = write_nifti(tmp_path / "label.nii.gz", labels, AFFINE)
    store.save_label(uid_of(pacs), str(file), "final", {"client_id": "Roe"})


def theirs(pacs: Pacs, tmp_path: Path, made: str = "", **more: Any) -> Dataset:
    """Store a segmentation of another program: spleen and liver the other way round."""
    spec = ModelSpec(name="w", network={"name": "swin_umamba_tiny"}, labels={"spleen": 1, "liver": 2})
    more = {"algorithm_type": "SEMIAUTOMATIC", "reviewer": "Poe", **more}
    dataset = write_segmentation(LABELS, pacs.images, spec, tmp_path / "t.dcm", affine=AFFINE, **more)
    dataset.Manufacturer = "other"
    dataset.ContentDate = made or dataset.ContentDate
    pacs.segmentations.append(dataset)
    return dataset


def test_label_is_stored_once(store: PacsDatastore, pacs: Pacs, tmp_path: Path) -> None:
    for _ in range(2):
        submit(store, pacs, tmp_path)
    (dataset,) = pacs.segmentations
    np.testing.assert_array_equal(read_segmentation(dataset, pacs.images).numpy()[0], LABELS)
    assert store.sending(uid_of(pacs), "final") == "stored"
    assert store.status()["completed"] == 1
    store.update()
    assert store.waiting() == []
    assert not list((tmp_path / "data" / "pacs" / "outgoing").glob("*.dcm"))


def test_label_waits_and_survives_a_restart(store: PacsDatastore, pacs: Pacs, tmp_path: Path) -> None:
    store.get_image_uri(uid_of(pacs))
    pacs.down = True
    submit(store, pacs, tmp_path)
    assert store.status()["completed"] == 1
    with pytest.raises(PacsError):
        store.update()
    again = open_store(tmp_path, pacs)
    assert again.waiting() == [(uid_of(pacs), "final")]
    pacs.down = False
    assert again.send(uid_of(pacs), "final") == "stored"
    assert len(pacs.segmentations) == 1
    assert again.waiting() == []


def test_stop_between_storing_and_noting_stores_the_same_again(
    store: PacsDatastore, pacs: Pacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(store.records, "note_sent", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            submit(store, pacs, tmp_path)
    assert store.send(uid_of(pacs), "final") == "stored"
    assert len({item.SOPInstanceUID for item in pacs.segmentations}) == 1


def test_label_by_others_is_a_label_and_fetched_when_it_is_needed(
    store: PacsDatastore, pacs: Pacs, tmp_path: Path
) -> None:
    theirs(pacs, tmp_path)
    store.update()
    assert store.get_labeled_images() == [uid_of(pacs)]
    assert store.waiting() == []
    final = tmp_path / "data" / "pacs" / "labels" / "final"
    assert not list(final.glob("*.nii.gz"))
    assert Path(store.get_label_uri(uid_of(pacs), "final")).is_file()
    names = {item["name"]: item["idx"] for item in store.label_meaning(uid_of(pacs))["label_info"]}
    assert names == {"spleen": 1, "liver": 2}
    store.update()
    assert store.waiting() == []
    assert len(pacs.segmentations) == 1
    store.remove_label(uid_of(pacs), "final")  # a person does not want it here
    store.update()
    assert store.get_labeled_images() == []


def test_label_submitted_here_wins_over_one_that_nobody_has_fetched(
    store: PacsDatastore, pacs: Pacs, tmp_path: Path
) -> None:
    theirs(pacs, tmp_path, made="20991231")  # their clock is far ahead
    store.update()
    file = write_nifti(tmp_path / "other.nii.gz", LABELS, 2 * AFFINE)
    with pytest.raises(InputError, match="mm away"):  # a bad label changes nothing
        store.save_label(uid_of(pacs), str(file), "final", {})
    assert store._found(uid_of(pacs)) is not None
    ours = np.where(LABELS == 2, 0, LABELS)
    submit(store, pacs, tmp_path, ours)
    store.update()
    assert store._found(uid_of(pacs)) is None
    label = read_segmentation(pacs.segmentations[-1], pacs.images).numpy()[0]
    np.testing.assert_array_equal(label, ours)
    assert store.sending(uid_of(pacs), "final") == "stored"


def test_later_label_by_others_replaces_ours_which_stays_in_the_history(
    store: PacsDatastore, pacs: Pacs, tmp_path: Path
) -> None:
    submit(store, pacs, tmp_path, np.where(LABELS == 2, 0, LABELS))
    theirs(pacs, tmp_path, made="20991231")
    store.update()
    assert store.get_label_uri(uid_of(pacs), "final")
    assert store.label_meaning(uid_of(pacs))["client_id"] == "Poe"
    assert len(list((tmp_path / "data" / "labels" / uid_of(pacs)).glob("*.nii.gz"))) == 2


def test_label_that_cannot_be_read_is_noted_and_forgotten(store: PacsDatastore, pacs: Pacs, tmp_path: Path) -> None:
    dataset = theirs(pacs, tmp_path)
    dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 999]
    store.update()
    assert store.get_label_uri(uid_of(pacs), "final") == ""
    store.update()
    assert store.get_labeled_images() == []
    assert "grid" in store.records.refused()[dataset.SOPInstanceUID]


def test_automatic_result_never_replaces_a_correction(store: PacsDatastore, pacs: Pacs, tmp_path: Path) -> None:
    file = write_nifti(tmp_path / "auto.nii.gz", LABELS, AFFINE)
    store.save_label(uid_of(pacs), str(file), "original", {})
    assert pacs.segmentations == []
    assert store.sending(uid_of(pacs), "original") == "local"
    store.save_label(uid_of(pacs), str(file), "original", {"send_to_pacs": True})
    assert store.sending(uid_of(pacs), "original") == "stored"
    submit(store, pacs, tmp_path)
    with pytest.raises(InputError, match="corrected label"):
        store.check_send(uid_of(pacs))


def test_result_that_is_kept_as_final_is_still_automatic(store: PacsDatastore, pacs: Pacs, tmp_path: Path) -> None:
    file = write_nifti(tmp_path / "auto.nii.gz", LABELS, AFFINE)
    store.save_label(uid_of(pacs), str(file), "final", {"params": {"warnings": []}})
    (dataset,) = pacs.segmentations
    assert {segment.SegmentAlgorithmType for segment in dataset.SegmentSequence} == {"AUTOMATIC"}


def test_images_come_from_the_pacs_alone(store: PacsDatastore, pacs: Pacs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="send the series there"):
        store.add_image("a", str(tmp_path / "a.nii.gz"), {})
    with pytest.raises(InputError, match="removed in the PACS"):
        store.remove_image(uid_of(pacs))
    assert not store.knows("9.9")
    assert not store.knows("../etc")


def test_series_that_left_the_pacs_stays_known_with_its_label(store: PacsDatastore, pacs: Pacs, tmp_path: Path) -> None:
    submit(store, pacs, tmp_path)
    uid, pacs.images = uid_of(pacs), []
    store.update()
    assert store.list_images() == [uid]
    store.remove_label(uid, "final")
    store.update()
    assert store.list_images() == []
