"""Labels as DICOM SEG: ours for the PACS, and those of other programs for us."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage
from swin_umamba.data.labels import organ_name
from swin_umamba.dicom.provenance import age_of, referenced_instances
from swin_umamba.dicom.segmentation import read_segmentation, segment_names, write_segmentation
from swin_umamba.errors import InputError
from swin_umamba.models import ModelSpec

from monailabel_app.datastore import read_volume
from monailabel_app.meanings import MOST_VALUES, add_names, with_model_ids
from monailabel_app.pacs.records import Found

BY_PERSON = ("MANUAL", "SEMIAUTOMATIC")


def write_label(
    file: str | os.PathLike,
    info: Mapping[str, Any],
    series: Path,
    spec: ModelSpec,
    path: Path,
    algorithm_type: str,
    earlier: Sequence[Dataset] = (),
    write: Callable[..., Dataset] = write_segmentation,
) -> Dataset:
    """Write a label of the data store as DICOM.

    Args:
        file: the label map, its values as in `info`.
        info: "label_info" [{"name", "idx"}] says what the values mean, without it they are the model's ids; "client_id"
            who made it.
        series: folder of the images.
        spec: of the model; its organs are the first segments, and what else a person has drawn follows.
        path: the file to write.
        algorithm_type: AUTOMATIC or SEMIAUTOMATIC.
        earlier: results of the same kind that this one supersedes.
        write: `write_segmentation`, or `write_structures` for an RTSTRUCT.

    Raises:
        InputError: if the label does not belong to the series, or cannot be written.
    """
    mapped, labels = with_model_ids(read_volume(str(file), "label"), info, spec.labels)
    reviewer = str(info.get("client_id") or "") if algorithm_type != "AUTOMATIC" else ""
    return write(
        mapped,
        str(series),
        dataclasses.replace(spec, labels=labels),
        path,
        algorithm_type=algorithm_type,
        reviewer=reviewer or None,
        supersedes=earlier,
    )


def all_segments(spec: ModelSpec, names: Sequence[str]) -> ModelSpec:
    """Return a model's description whose labels also hold what else was drawn, behind its own.

    Raises:
        InputError: if there are more than a segmentation can hold.
    """
    return dataclasses.replace(spec, labels=add_names(spec.labels, names))


def look_at(header: Dataset, organs: Collection[str]) -> Found | None:
    """Return what a segmentation is, if a person made or corrected it and it shows at least one of our organs.

    Automatic results are passed over, ours as well as others': a network must not learn from what no one has looked at.

    Args:
        header: of the segmentation, its pixels are not needed.
        organs: names of the models' organs.
    """
    segments = header.get("SegmentSequence") or []
    series = next(iter(referenced_instances(header)), None)
    if header.get("SOPClassUID") != SegmentationStorage or header.get("SegmentationType") != "BINARY" or series is None:
        return None
    if not any(segment.get("SegmentAlgorithmType") in BY_PERSON for segment in segments):
        return None
    known = {organ_name(organ) for organ in organs}
    if not any(organ_name(name) in known for segment in segments for name in segment_names(segment)):
        return None
    return Found(
        image=str(series),
        study=str(header.StudyInstanceUID),
        series=str(header.SeriesInstanceUID),
        instance=str(header.SOPInstanceUID),
        made=made_at(header),
        who=str(header.get("ContentCreatorName") or ""),
    )


def read_label(dataset: Dataset, series: Path, organs: Collection[str]) -> tuple[MetaTensor, list[dict[str, Any]]]:
    """Return a segmentation as a label map with the segments' numbers as values, and what they mean.

    Args:
        dataset: of any program.
        series: folder of its images.
        organs: names of the models' organs; a segment is called by the one that its label or its code names, else by
            its label.

    Returns:
        (1, column, row, slice) with its affine, and [{"name", "idx"}] of all segments.

    Raises:
        InputError: if it is no binary segmentation on the grid of the series.
    """
    ours = {organ_name(organ): organ for organ in organs}
    meanings: list[dict[str, Any]] = []
    taken: set[str] = set()
    if len(dataset.SegmentSequence) > MOST_VALUES:
        raise InputError(f"segmentation with {len(dataset.SegmentSequence)} segments; legal: up to {MOST_VALUES}")
    for segment in dataset.SegmentSequence:
        names = segment_names(segment)
        number = int(segment.SegmentNumber)
        name = next((ours[organ_name(name)] for name in names if organ_name(name) in ours), None)
        if name is None or name in taken:
            name = f"{names[0] if names else 'segment'} ({number})"
        taken.add(name)
        meanings.append({"name": name, "idx": number})
    label = read_segmentation(dataset, str(series))
    return MetaTensor(label.as_tensor().to(torch.uint8), meta=label.meta), meanings


def made_at(header: Dataset) -> str:
    """Return date and time of the content, as text that sorts by time."""
    date, time, number = age_of(header)
    return f"{date} {time} {number:08d}"
