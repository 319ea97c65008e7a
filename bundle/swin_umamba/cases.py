"""Which images a file or a folder holds, and what each one is called in everything that is written about it."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from swin_umamba.errors import InputError
from swin_umamba.formats import NIFTI, formats_of_series, no_series
from swin_umamba.photographs import LEGAL_PHOTOGRAPHS, is_photograph
from swin_umamba.readers import LEGAL_IMAGES, suffix_of

logger = logging.getLogger(__name__)

OUR_PICTURE = re.compile(r"_(seg|overlay|instances|label)$", re.IGNORECASE)  # what lies beside photographs
LABEL_NAME = re.compile(r"(^|[_.\- ])(seg|segmentation|label|labels|mask|gt)($|[_.\- ])", re.IGNORECASE)
OTHER_FILES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".json",
    ".csv",
    ".txt",
    ".yaml",
    ".yml",
    ".raw",
    ".zip",
)
NAMES_SHOWN = 5  # of ignored files in a log line

Case = dict[str, Any]


def find_cases(
    path: str | os.PathLike, output_format: str | Sequence[str] = NIFTI, photographs: bool = False
) -> list[Case]:
    """Find the images to segment.

    In a folder, with those inside it: every NIfTI, NRRD and MetaImage file but hidden ones and those that are called
    like a label map (`*_seg*`, `label.nii.gz`), and every DICOM series; what is left out is told in the log. A file
    that is named itself is taken whatever it is called.

    Args:
        path: an image file, a file of a DICOM series (that slice alone, or all frames of a multi-frame file), or a
            folder.
        output_format: of the results, see `swin_umamba.formats`; with one that needs a DICOM series, a case that is
            none has "failure", the reason, instead of its image.
        photographs: take photographs and nothing else; False takes none, such as pictures of a result.

    Returns:
        For each case, in a fixed order: "case" (its unique name), "input" (what to call the input in a report) and
        "image" (the file, or the tuple of a series' files), or instead of that "skipped", why it is left out. A file
        is called by its path inside the folder, without the suffix and with "_" between folders; a DICOM series by its
        modality and a digest of its UID, because folders and files of DICOM are often called by the patient's name.

    Raises:
        InputError: if there is no such path, it cannot be read, or there is no image.
    """
    needed = formats_of_series(output_format)
    path = Path(path).expanduser()
    legal = LEGAL_PHOTOGRAPHS if photographs else LEGAL_IMAGES
    if not path.exists():
        raise InputError(f"dataset_dir {str(path)!r} does not exist; legal: a folder, or a file: {legal}")
    if photographs:
        cases = _photographs(path)
    elif path.is_dir():
        cases = _cases_of_folder(path)
    elif suffix_of(path):
        cases = [_file_case(path, path.parent)]
    else:
        cases = _dicom_cases([path])
    if not any("image" in case for case in cases):
        skipped = "".join(f"; {case['input']} was skipped: {case['skipped']}" for case in cases[:NAMES_SHOWN])
        raise InputError(f"no image in dataset_dir {str(path)!r}{skipped}; legal: {legal}")
    return [_refused_without_series(case, needed) for case in _with_unique_names(cases)]


def _refused_without_series(case: Case, formats: Sequence[str]) -> Case:
    if not formats or isinstance(case.get("image", ()), tuple):
        return case
    return {"case": case["case"], "input": case["input"], "failure": no_series(formats, case["input"])}


def _cases_of_folder(folder: Path) -> list[Case]:
    cases: list[Case] = []
    unknown: list[Path] = []
    ignored: Counter[str] = Counter()
    for file in _visible_files(folder):
        if not suffix_of(file):
            unknown.append(file)
        elif LABEL_NAME.search(file.name[: -len(suffix_of(file))]):
            ignored["called like a label map"] += 1
        else:
            cases.append(_file_case(file, folder))
    ignored["no images"] += len([file for file in unknown if file.suffix.lower() in OTHER_FILES])
    for reason, count in ignored.items():
        if count:
            logger.info("%s: %d files ignored, %s", folder, count, reason)
    return cases + _dicom_cases([file for file in unknown if file.suffix.lower() not in OTHER_FILES])


def _photographs(path: Path) -> list[Case]:
    """Return a case for a photograph, or for each one in a folder but for label maps and pictures of results."""
    if not path.is_dir():
        return [_file_case(path, path.parent)] if is_photograph(path) else []
    files = [file for file in _visible_files(path) if is_photograph(file)]
    ours = [file for file in files if OUR_PICTURE.search(file.stem)]
    if ours:
        logger.info("%s: %d files ignored, called like a label map or a picture of a result", path, len(ours))
    return [_file_case(file, path) for file in files if not OUR_PICTURE.search(file.stem)]


def _visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of those inside it, sorted; hidden files and folders are left out."""

    def fail(error: OSError) -> None:
        raise InputError(f"folder {error.filename!r} cannot be read: {error.strerror}") from error

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place) / name for name in sorted(names) if not name.startswith((".", "~")))


def _file_case(file: Path, folder: Path) -> Case:
    inside = file.relative_to(folder).as_posix()
    name = re.sub(r"[^\w.\-]+", "_", inside[: -len(suffix_of(file) or file.suffix)]).strip(".") or "image"
    return {"case": name, "input": inside, "image": str(file)}


def _dicom_cases(files: list[Path]) -> list[Case]:
    """Return a case for each volume of each DICOM series among the files, and say which files are no DICOM image."""
    if not files:
        return []
    from swin_umamba.dicom.series import read_header, series_name  # pydicom takes long to import

    series: dict[str, list[tuple[str, Any]]] = {}
    ignored = []
    for file in files:
        header = read_header(file)
        if header is None:
            ignored.append(file.name)
        else:
            series.setdefault(series_name(header), []).append((str(file), header))
    if ignored:
        logger.info("%d files ignored, neither images nor DICOM images: %s", len(ignored), ignored[:NAMES_SHOWN])
    single = len(files) == 1  # a file that the user named, or all there is
    return [case for name in sorted(series) for case in _volumes_of_series(name, series[name], single)]


def _volumes_of_series(name: str, files: list[tuple[str, Any]], single: bool) -> list[Case]:
    from swin_umamba.dicom.series import are_parallel, planes_of, split_volumes

    described = {"case": name, "input": f"DICOM series {name} ({len(files)} files)"}
    try:
        planes = [plane for file, header in files for plane in planes_of(file, header)]
    except InputError as error:
        return [{**described, "skipped": str(error)}]
    if not are_parallel(planes):
        return [{**described, "skipped": "slices of several directions (a localizer?)"}]
    if len(planes) < 2 and not single:
        return [{**described, "skipped": "one slice alone (a scout?)"}]
    volumes = [tuple(sorted({plane.file for plane in part})) for part in split_volumes(planes)]
    if len(volumes) == 1:
        return [{**described, "image": volumes[0]}]
    return [
        {"case": f"{name}_{index}", "input": f"{described['input']}, volume {index}", "image": volume}
        for index, volume in enumerate(volumes, start=1)
    ]


def _with_unique_names(cases: list[Case]) -> list[Case]:
    """Tell cases of one name apart by a digest of their input, the same in every run; a and A are one name."""
    names = [case["case"] for case in cases]
    for digits in (6, 16, 64):
        count = Counter(name.casefold() for name in names)
        for index, case in enumerate(cases):
            if count[names[index].casefold()] > 1:
                digest = hashlib.sha256(case["input"].encode()).hexdigest()
                names[index] = f"{case['case']}_{digest[:digits]}"
    return [{**case, "case": name} for case, name in zip(cases, names, strict=True)]
