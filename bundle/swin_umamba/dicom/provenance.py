"""What our results say of themselves: who made them, from which images, and which earlier results they supersede.

The standard gives a segmentation no "predecessor". A result that supersedes others therefore

- goes into the **series of the latest one** with the next instance number, as long as model, versions and description
  of the series are the same (a series has one equipment and one description; otherwise a new series begins). A viewer
  or an archive then shows one series per image series and model whose last instance is the valid one, also when it
  knows nothing of references. Where models supersede each other, as in the app, the numbers go on from series to
  series, and the highest is the valid one;
- names the earlier ones in its **Referenced Image Sequence** (a structure set: Predecessor Structure Set Sequence),
  which is how an image points to images that it is related to. It is not the Source Image Sequence: the pixels come
  from the source series, and readers take whatever is there for the images to draw the segments on;
- lists them in the Referenced Series Sequence, which must hold all that is referenced, **after** the source series:
  common readers look at its first item alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage, SegmentationStorage, generate_uid

from swin_umamba import __version__
from swin_umamba.dicom.source import Series, Source, read_source
from swin_umamba.errors import InputError
from swin_umamba.models import ModelSpec

MANUFACTURER = "Swin-UMamba for MONAI"
DISCLAIMER = "for research, not for clinical use"
ALGORITHM_TYPES = ("AUTOMATIC", "SEMIAUTOMATIC")
LONG_STRING, SHORT_STRING = 64, 16  # characters of DICOM's LO and SH
NUMBERS: dict[str, int] = {SegmentationStorage: 90, RTStructureSetStorage: 91}  # last digits of our series' numbers
LARGEST_NUMBER = 2**31 - 1
UTF8 = "ISO_IR 192"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a result goes: its series, the series' number and the result's number in it."""

    series_uid: str
    series_number: int
    instance_number: int


def equipment(spec: ModelSpec) -> dict[str, str | list[str]]:
    """Return the attributes of the General Equipment module: the model is the device, its weights the serial number."""
    return {
        "Manufacturer": MANUFACTURER,
        "ManufacturerModelName": text(spec.name),
        "SoftwareVersions": [f"model {spec.version}", f"code {__version__}"],
        "DeviceSerialNumber": spec.sha256 or "unknown",
    }


def find_earlier(
    datasets: Iterable[Dataset], source_series: Series, spec: ModelSpec | None, kind: str = SegmentationStorage
) -> list[Dataset]:
    """Return our own earlier results for a series, oldest first, for `supersedes` of the writers.

    Ours are those with our manufacturer and the model's name, of any version, that reference the source series and at
    least one of its instances (another echo of the series is another volume).

    Args:
        datasets: of an archive or a folder; what is not ours is passed over.
        source_series: as for `swin_umamba.dicom.source.read_source`.
        spec: of the model; None for the results of all models, where a series has one valid label and not one of each.
        kind: SOP class UID of segmentations or of structure sets.
    """
    source = read_source(source_series)
    ours = [
        dataset
        for dataset in datasets
        if dataset.get("SOPClassUID") == kind
        and dataset.get("Manufacturer") == MANUFACTURER
        and (spec is None or dataset.get("ManufacturerModelName") == text(spec.name))
        and set(referenced_instances(dataset).get(str(source.first.SeriesInstanceUID), ())) & set(source.headers)
    ]
    return sorted(ours, key=age_of)


def referenced_instances(dataset: Dataset) -> dict[str, list[str]]:
    """Return the instances that a segmentation or a structure set references, by the UID of their series."""
    frames = dataset.get("ReferencedFrameOfReferenceSequence") or []
    studies = itertools.chain.from_iterable(frame.get("RTReferencedStudySequence") or [] for frame in frames)
    in_structures = itertools.chain.from_iterable(study.get("RTReferencedSeriesSequence") or [] for study in studies)
    found: dict[str, list[str]] = {}
    for series in (*(dataset.get("ReferencedSeriesSequence") or []), *in_structures):
        items = series.get("ReferencedInstanceSequence") or series.get("ContourImageSequence") or []
        found.setdefault(str(series.SeriesInstanceUID), []).extend(str(item.ReferencedSOPInstanceUID) for item in items)
    return found


def place_of(kind: str, source: Source, spec: ModelSpec, description: str, earlier: Sequence[Dataset]) -> Place:
    """Return where a new result goes, see the head of this module.

    The series' number is 100 times that of the source series and 90 for segmentations, 91 for structure sets, so that
    it stands behind its source in a list: 501 gives 50190.

    Args:
        kind: SOP class UID.
        source: the images.
        spec: of the model.
        description: of the series.
        earlier: results of the same kind that the new one supersedes.

    Raises:
        InputError: if an earlier result is of another kind or of another study.
    """
    for dataset in earlier:
        if dataset.SOPClassUID != kind or dataset.StudyInstanceUID != source.first.StudyInstanceUID:
            raise InputError(
                f"supersedes holds a result of another kind or study than DICOM series {source.name}; legal: those of "
                "find_earlier that are of the same kind"
            )
    number = max((int(dataset.get("InstanceNumber") or 0) for dataset in earlier), default=0) + 1
    if earlier:
        latest = latest_of(earlier)
        same = {**equipment(spec), "SeriesDescription": description}
        if all(_plain(latest.get(keyword)) == value for keyword, value in same.items()):
            return Place(str(latest.SeriesInstanceUID), int(latest.SeriesNumber), number)
    series_number = 100 * max(0, int(source.first.get("SeriesNumber") or 0)) + NUMBERS[kind]
    return Place(generate_uid(), series_number if series_number <= LARGEST_NUMBER else NUMBERS[kind], number)


def describe_series(spec: ModelSpec, description: str | None) -> str:
    """Return what a series is called: what the user says, or the model's name and that it is for research only."""
    if description is not None:
        return text(description)
    return _for_research(spec.name)


def describe_content(spec: ModelSpec) -> str:
    """Return what a result is called: the model's name and version, and that it is for research only."""
    return _for_research(f"{spec.name} {spec.version}")


def record_earlier(dataset: Dataset, earlier: Sequence[Dataset]) -> None:
    """Note in a segmentation which ones it supersedes, see the head of this module."""
    if not earlier:
        return
    dataset.ReferencedImageSequence = [reference_to(item) for item in earlier]
    series: dict[str, list[Dataset]] = {}
    for item in earlier:
        series.setdefault(str(item.SeriesInstanceUID), []).append(reference_to(item))
    for uid, items in series.items():
        listed = Dataset()
        listed.SeriesInstanceUID, listed.ReferencedInstanceSequence = uid, items
        dataset.ReferencedSeriesSequence.append(listed)


def latest_of(datasets: Iterable[Dataset]) -> Dataset:
    """Return the result that was made last."""
    return max(datasets, key=age_of)


def reference_to(dataset: Dataset) -> Dataset:
    """Return an item that references an instance."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    return item


def check_algorithm_type(algorithm_type: str) -> str:
    """Return the algorithm type, checked.

    Raises:
        InputError: if it is not one of `ALGORITHM_TYPES`.
    """
    if algorithm_type not in ALGORITHM_TYPES:
        raise InputError(f"algorithm_type is {algorithm_type!r}; legal: {', '.join(ALGORITHM_TYPES)}")
    return algorithm_type


def text(value: str, length: int = LONG_STRING) -> str:
    """Return a text as DICOM takes it: no backslash, which parts values, no control character, not too long."""
    return re.sub(r"[\\\x00-\x1f\x7f]", " ", value).strip()[:length].strip()


def age_of(dataset: Dataset) -> tuple[str, str, int]:
    """Return date, time and instance number of a result's content, which sort by time."""
    date = dataset.get("ContentDate") or dataset.get("StructureSetDate") or ""
    time = dataset.get("ContentTime") or dataset.get("StructureSetTime") or ""
    return (str(date), str(time), int(dataset.get("InstanceNumber") or 0))


def _plain(value: object) -> object:
    return value if isinstance(value, str) or value is None else [str(part) for part in value]  # type: ignore[attr-defined]


def _for_research(name: str) -> str:
    return f"{text(name, LONG_STRING - len(DISCLAIMER) - 2)}: {DISCLAIMER}"
