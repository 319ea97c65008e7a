"""The labelled cases of a data store as a data list of the bundle: values by organ name, patients kept apart."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from swin_umamba.data import save_datalist
from swin_umamba.data.labels import organ_name
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder, replace_file
from swin_umamba.label_maps import save_label_map

from monailabel_app.datastore import SafeDatastore, check_label, read_volume
from monailabel_app.meanings import label_values, map_by_name
from monailabel_app.settings import AppSettings

logger = logging.getLogger(__name__)

TRAINING, VALIDATION = "training", "validation"


def write_datalist(
    datastore: SafeDatastore, labels: Mapping[str, int], settings: AppSettings, folder: str | os.PathLike
) -> dict[str, Any]:
    """Write a data list of all cases with a final label, and their labels in a model's ids.

    Args:
        datastore: with the submitted labels.
        labels: the model's {organ: id}.
        settings: which part of an image's id is the patient, and how many patients are held out.
        folder: gets `datalist.json` and `labels/`.

    Returns:
        "datalist" (its path), "training" and "validation" (image ids), "left_out" {image id: why} and "warnings".

    Raises:
        InputError: if no case can be used.
    """
    folder = make_writable_folder(folder)
    plain: dict[str, Any] = {"labels": dict(labels), TRAINING: [], VALIDATION: []}
    report: dict[str, Any] = {TRAINING: [], VALIDATION: [], "left_out": {}, "warnings": []}
    sides = Sides(settings)
    for image in sorted(datastore.get_labeled_images()):
        try:
            file, labelled = _write_label(datastore, image, labels, folder / "labels", report["warnings"])
        except InputError as error:
            report["left_out"][image] = str(error)
            logger.warning("%s is left out of the training: %s", image, error)
            continue
        patient = patient_of(image, datastore.get_image_info(image), settings)
        side = sides.side_of(patient)
        files = {"image": datastore.get_image_uri(image), "label": str(file)}
        item = {"case": image, "patient": patient, **files, "labelled": labelled}
        plain[side].append(item)
        report[side].append(image)
    if not plain[TRAINING]:
        reasons = "; ".join(f"{image}: {why}" for image, why in report["left_out"].items())
        raise InputError(
            f"no labelled case to learn from: submit a label first{'; left out: ' * bool(reasons)}{reasons}"
        )
    report["datalist"] = save_datalist(folder / "datalist.json", plain)
    return report


def patient_of(image: str, info: Mapping[str, Any], settings: AppSettings) -> str:
    """Return who an image is of: by the pattern on its id, the DICOM PatientID, or else the id itself."""
    if settings.patient_pattern is not None:
        match = settings.patient_pattern.search(image)
        if match:
            return match[1]
    return str(info.get("PatientID") or image)


class Sides:
    """Who is trained on and who is held out: decided once for each patient, and kept.

    The first patient is trained on, so that one labelled case is enough; each other's side is a hash of the name.

    Args:
        settings: the share that is held out, and where sides are kept.
    """

    def __init__(self, settings: AppSettings) -> None:
        self.share = settings.validation_share
        self.file = make_writable_folder(settings.data_dir / "training") / "sides.json"

    def side_of(self, patient: str) -> str:
        """Return "training" or "validation"."""
        with FileLock(f"{self.file}.lock"):
            sides = json.loads(self.file.read_text(encoding="utf-8")) if self.file.is_file() else {}
            if patient not in sides:
                held_out = bool(sides) and hash_share(patient) < self.share
                sides[patient] = VALIDATION if held_out else TRAINING
                with replace_file(self.file) as path:
                    path.write_text(json.dumps(sides, indent=1, ensure_ascii=False), encoding="utf-8")
        return sides[patient]


def hash_share(patient: str) -> float:
    """Return a number from 0 to below 1 that depends on the patient's name alone."""
    return int.from_bytes(hashlib.sha256(patient.encode()).digest()[:4], "big") / 2**32


def _write_label(
    datastore: SafeDatastore, image: str, labels: Mapping[str, int], folder: Path, warnings: list[str]
) -> tuple[Path, list[str]]:
    """Write a label in the model's ids; returns its file and the organs that were looked for in it.

    An organ that "label_info" does not name was not looked for: a person who outlined the kidneys alone has not said
    that there is no liver, and it must not be learnt from that.
    """
    file = datastore.get_label_uri(image, "final")
    info = datastore.label_meaning(image)
    check_label(file, datastore.get_image_uri(image), info)
    label = read_volume(file, "label")
    names = label_values(info) or {number: organ for organ, number in labels.items()}
    unnamed = sorted(set(label.unique().int().tolist()) - {0} - set(names))
    if unnamed:
        raise InputError(
            f"values {unnamed} have no name: the label came without label_info and the model has no such ids"
        )
    mapped, strangers = map_by_name(label, names, labels)
    organs = {organ_name(name) for name in names.values()}
    labelled = [organ for organ in labels if organ_name(organ) in organs]
    if not labelled:
        raise InputError(f"the model knows none of {', '.join(names.values())}; it has {', '.join(labels)}")
    if strangers:
        warnings.append(f"{image}: the model has no {', '.join(strangers)}; taken as background")
    make_writable_folder(folder)
    save_label_map(folder / f"{image}.nii.gz", mapped)
    return folder / f"{image}.nii.gz", labelled
