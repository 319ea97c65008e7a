"""Layouts of data sets on disk: plain folders, nnU-Net v2's raw folder, the Medical Segmentation Decathlon's JSON.

AMOS22 and CHAOS as distributed have modules of their own, `amos` and `chaos`.

A reader finds the cases and the label table and nothing else: dividing the cases is for `swin_umamba.data.splits`,
looking into the images for `swin_umamba.data.check`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swin_umamba.data.datalist import NAMES_SHOWN, SECTIONS
from swin_umamba.data.label_files import organ_table, read_labels
from swin_umamba.errors import InputError
from swin_umamba.photographs import LEGAL_PHOTOGRAPHS, photograph_suffix
from swin_umamba.readers import LEGAL_IMAGES, suffix_of

DATASET_FILE = "dataset.json"
IMAGE_FOLDER, LABEL_FOLDER = "images", "labels"
COLOURS = ["R", "G", "B"]  # nnU-Net's channels of a photograph, which is one file all the same
PHOTOGRAPH = "XC"  # DICOM's photography; --modality says it better


@dataclasses.dataclass(kw_only=True)
class Source:
    """What a layout holds.

    Args:
        labels: {organ: id in the label files}.
        sections: items with "case", "image" and "label" by section; what the layout does not divide is training.
        unlabelled: items without "label".
        about: name, description, modality and licence, as far as the layout tells.
    """

    labels: dict[str, int]
    sections: dict[str, list[dict[str, Any]]]
    unlabelled: list[dict[str, Any]]
    about: dict[str, str] = dataclasses.field(default_factory=dict)


def read_folder(
    folder: str | os.PathLike, labels: str, image_suffix: str | None = None, label_suffix: str | None = None
) -> Source:
    """Read pairs of files.

    Args:
        folder: with `images/` and `labels/`, whose files have equal names; or, with the two suffixes, a folder in which
            (or in whose folders) a case is `<case>_<image suffix>.<format>` and `<case>_<label suffix>.<format>`. Files
            called by the suffix alone take the case's name from the folder.
        labels: a name of `swin_umamba.data.labels.LABEL_TABLES`, or a JSON or YAML file {organ: id}.
        image_suffix: the end of image files' names.
        label_suffix: likewise of label maps.

    Raises:
        InputError: if there is no pair, a label map without an image, two files for one case, or no such label table.
    """
    folder = _folder(folder)
    table = read_labels(labels)
    if (image_suffix is None) != (label_suffix is None):
        raise InputError("--image_suffix and --label_suffix: give both, or none for images/ and labels/")
    if image_suffix is None or label_suffix is None:
        for part in (IMAGE_FOLDER, LABEL_FOLDER):
            if not (folder / part).is_dir():
                raise InputError(
                    f"{str(folder)!r} has no folder {part}/; legal: {IMAGE_FOLDER}/ and {LABEL_FOLDER}/ with equal "
                    "file names, or --image_suffix and --label_suffix for one folder"
                )
        images, maps = (_volumes(folder / part, "") for part in (IMAGE_FOLDER, LABEL_FOLDER))
    else:
        images, maps = _volumes(folder, image_suffix), _volumes(folder, label_suffix)
    return _paired(table, images, maps, str(folder), {"name": folder.name})


def read_nnunet(folder: str | os.PathLike) -> Source:
    """Read a raw data folder of nnU-Net v2: `imagesTr/<case>_0000.<format>`, `labelsTr/<case>.<format>`, dataset.json.

    Args:
        folder: such as `Dataset702_AbdomenMR`, or `Dataset704_Endovis17` with photographs in PNG; `imagesTs` with
            `labelsTs` becomes the test section.

    Raises:
        InputError: for more than one channel, labels that are regions or "ignore", a number of cases other than
            `numTraining`, files that do not pair.
    """
    folder = _folder(folder)
    plain, where = _read_json(folder / DATASET_FILE), str(folder / DATASET_FILE)
    channels = plain.get("channel_names", plain.get("modality", {}))
    about = _about(plain, folder.name, channels, where)
    table = organ_table(plain.get("labels"), where)
    ending = str(plain.get("file_ending", ".nii.gz"))
    if not suffix_of(f"x{ending}") and not photograph_suffix(f"x{ending}"):
        legal = f"{LEGAL_IMAGES.split(' or ')[0]}, {LEGAL_PHOTOGRAPHS}"
        raise InputError(f"{where}: file_ending {ending!r}; legal: {legal}")
    images = _first_channels(folder / "imagesTr", ending)
    source = _paired(table, images, _volumes(folder / "labelsTr", "", ending), str(folder), about)
    count = len(source.sections["training"])
    if plain.get("numTraining", count) != count:
        raise InputError(f"{where}: numTraining is {plain['numTraining']}, but there are {count} pairs of files")
    if (folder / "imagesTs").is_dir():
        test = _first_channels(folder / "imagesTs", ending)
        maps = _volumes(folder / "labelsTs", "", ending) if (folder / "labelsTs").is_dir() else {}
        _place(source, "test", _renamed(test, images), _renamed(maps, images), str(folder))
    return source


def read_msd(source: str | os.PathLike) -> Source:
    """Read the `dataset.json` of the Medical Segmentation Decathlon, which AMOS22 uses too.

    Args:
        source: the file or its folder; it lists "training" and perhaps "validation" as [{"image", "label"}, …], and
            "test" as paths or as the others.

    Raises:
        InputError: for more than one modality, a list that is no such thing, a wrong `numTraining`.
    """
    path = Path(source).expanduser().resolve()
    path = path / DATASET_FILE if path.is_dir() else path
    plain, where = _read_json(path), str(path)
    about = _about(plain, path.parent.name, plain.get("modality", {}), where)
    sections: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS}
    unlabelled: list[dict[str, Any]] = []
    for section in SECTIONS:
        entries = plain.get(section, [])
        if not isinstance(entries, list):
            raise InputError(f"{where}: {section} is {type(entries).__name__}; legal is a list of cases")
        for number, entry in enumerate(entries):
            item = _msd_item(entry, path.parent, f"{where}: {section}[{number}]")
            (sections[section] if "label" in item else unlabelled).append(item)
    listed = len(plain.get("training", []))
    if plain.get("numTraining", listed) != listed:
        raise InputError(f"{where}: numTraining is {plain['numTraining']}, but {listed} training cases are listed")
    return Source(labels=organ_table(plain.get("labels"), where), sections=sections, unlabelled=unlabelled, about=about)


def read_layout(folder: str | os.PathLike, labels: str | None = None) -> Source:
    """Read a folder in whichever layout it has: dataset.json with `imagesTr` (nnU-Net or Decathlon), or plain folders.

    Args:
        folder: of the data set.
        labels: of a folder without dataset.json, see `read_folder`.

    Raises:
        InputError: if it has none of the layouts, or what the layout's own reader says.
    """
    path = _folder(folder)
    if (path / DATASET_FILE).is_file():
        channels = (path / "imagesTr").is_dir() and any((path / "imagesTr").glob("*_0000.*"))
        return read_nnunet(path) if channels else read_msd(path)
    if (path / IMAGE_FOLDER).is_dir() and (path / LABEL_FOLDER).is_dir():
        if labels is None:
            raise InputError(f"{str(folder)!r} does not say what its labels mean; give --labels, a table or a file")
        return read_folder(path, labels)
    raise InputError(
        f"{str(folder)!r} has no layout that is known: {DATASET_FILE}, or {IMAGE_FOLDER}/ and {LABEL_FOLDER}/; make a "
        "data list of it with python -m swin_umamba.data datalist, and give that"
    )


def check_files_exist(source: Source) -> None:
    """Check that every file of a source is there.

    Raises:
        InputError: with the number of missing files and each of them.
    """
    items = [item for part in (*source.sections.values(), source.unlabelled) for item in part]
    files = [item[key] for item in items for key in ("image", "label") if key in item]
    missing = [file for file in files if not os.path.exists(file)]
    if missing:
        raise InputError(f"{len(missing)} of {len(files)} files do not exist: {', '.join(missing)}")


def _about(plain: Mapping[str, Any], name: str, channels: Any, where: str) -> dict[str, str]:
    """Return what a dataset.json tells of itself, once it has one channel."""
    names = [str(value) for value in (channels.values() if isinstance(channels, Mapping) else [channels])]
    photographs = bool(photograph_suffix(f"x{plain.get('file_ending', '')}"))
    if len(names) > 1 and not (photographs and [text.upper() for text in names] == COLOURS):
        raise InputError(f"{where}: {len(names)} channels ({', '.join(names)}); only one channel is supported")
    about = {
        "name": plain.get("name") or name,
        "description": plain.get("description"),
        "licence": plain.get("licence", plain.get("license")),
        "modality": PHOTOGRAPH if photographs else "CT" if [text.upper() for text in names] == ["CT"] else None,
    }
    return {key: str(value) for key, value in about.items() if value}


def _paired(
    labels: dict[str, int], images: dict[str, Path], maps: dict[str, Path], where: str, about: dict[str, str]
) -> Source:
    source = Source(labels=labels, sections={section: [] for section in SECTIONS}, unlabelled=[], about=about)
    _place(source, "training", images, maps, where)
    if not source.sections["training"]:
        raise InputError(
            f"{where}: no image has a label map; images: {_some(images) or 'none'}; label maps: {_some(maps) or 'none'}"
        )
    return source


def _place(source: Source, section: str, images: dict[str, Path], maps: dict[str, Path], where: str) -> None:
    """Put pairs into a section and images without a label map aside."""
    orphans = [str(maps[case]) for case in maps if case not in images]
    if orphans and images:
        raise InputError(f"{where}: {len(orphans)} label maps have no image: {_some(orphans)}")
    for case, image in images.items():
        item = {"case": case, "image": str(image)}
        if case in maps:
            source.sections[section].append({**item, "label": str(maps[case])})
        else:
            source.unlabelled.append(item)


def _renamed(files: dict[str, Path], taken: Iterable[str]) -> dict[str, Path]:
    """Return the files of a test folder by names that no training case has; both may be numbered from 1."""
    taken = set(taken)
    return {f"test_{case}" if case in taken else case: file for case, file in files.items()}


def _first_channels(folder: Path, ending: str) -> dict[str, Path]:
    """Return the images of a folder of nnU-Net by case, once all of them are `<case>_0000`."""
    files = _volumes(folder, "", ending)
    others = [path.name for name, path in files.items() if not name.endswith("_0000")]
    if others:
        raise InputError(f"{folder}: {_some(others)}: only one channel is supported, <case>_0000{ending}")
    return {name.removesuffix("_0000"): path for name, path in files.items()}


def _volumes(folder: Path, end: str, ending: str = "") -> dict[str, Path]:
    """Return the volumes of a folder and those inside it by case; names end in `end`, files in `ending`."""
    _folder(folder)
    suffix_in = photograph_suffix if photograph_suffix(f"x{ending}") else suffix_of
    end = end[: len(end) - len(suffix_in(end))].strip("_-.") if end else ""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        suffix = suffix_in(path)
        if not suffix or not path.name.endswith(ending) or any(part.startswith(".") for part in inside.parts):
            continue
        match = re.fullmatch(rf"(?:(.*)[_.-])?{re.escape(end)}" if end else r"(.+)", path.name[: -len(suffix)])
        if match is None:
            continue
        case = case_name([*inside.parts[:-1], *filter(None, match.groups())]) or case_name([folder.name])
        if case in found:
            raise InputError(f"{found[case]} and {path} are both case {case!r}; keep one of them")
        found[case] = path
    return found


def case_name(parts: Iterable[str]) -> str:
    """Return a case's name, fit for file names, from the parts of its path."""
    return re.sub(r"[^\w.\-]+", "_", "_".join(parts))


def _msd_item(entry: Any, folder: Path, where: str) -> dict[str, str]:
    entry = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or not isinstance(entry.get("image"), str):
        raise InputError(f'{where} is {entry!r}; legal is {{"image": path, "label": path}}')
    name = Path(entry["image"]).name
    item = {"case": case_name([name.removesuffix(suffix_of(name)) or name])}
    item.update({key: str(folder / entry[key]) for key in ("image", "label") if entry.get(key)})
    return item


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{str(path)!r} is not JSON: {error}") from error
    if not isinstance(plain, dict):
        raise InputError(f"{str(path)!r} holds a {type(plain).__name__}; legal is an object")
    return plain


def _folder(folder: str | os.PathLike) -> Path:
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise InputError(f"{str(folder)!r} is no folder; legal: one that holds the images")
    return path


def _some(names: Iterable[Any]) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
