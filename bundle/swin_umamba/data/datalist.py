"""Data lists: one JSON file that says which images and label maps there are and what their ids mean.

`{"name", "description", "modality", "licence", "labels": {organ: id in the label files}, "training": [{"case",
"patient", "image", "label"}, …], "validation": […], "test": […]}`. Paths are relative to the file's own folder unless
absolute. An item, or the whole list, may have "labelled", the organs that were annotated at all (default: all of
"labels"). An item without "patient" is a patient of its own. An image is a file, or a folder with the DICOM files of
one series. An item of photographs may have "instances", a label map with numbers of single objects.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

from swin_umamba.data.labels import check_labels, check_organs, map_label_ids
from swin_umamba.errors import InputError
from swin_umamba.files import replace_file

logger = logging.getLogger(__name__)

SECTIONS = ("training", "validation", "test")

_TEXT = {"type": "string", "minLength": 1}
_ORGANS = {"type": "array", "items": _TEXT, "minItems": 1, "uniqueItems": True}
_ITEM = {
    "type": "object",
    "required": ["case", "image"],
    "additionalProperties": False,  # a misspelt "labelled" must not pass for an annotation in full
    "properties": {
        "case": _TEXT,
        "patient": _TEXT,
        "image": _TEXT,
        "label": _TEXT,
        "instances": _TEXT,
        "labelled": _ORGANS,
        "seed": {"type": "integer"},  # of a generated case
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["labels"],
    "additionalProperties": False,
    "properties": {
        **{key: {"type": "string"} for key in ("name", "description", "modality", "licence")},
        "labels": {"type": "object"},
        "labelled": _ORGANS,
        **{section: {"type": "array", "items": _ITEM} for section in SECTIONS},
    },
}
FILE_KEYS = ("image", "label", "instances")
NAMES_SHOWN = 3  # of files or cases in a message


def load_datalist(
    datalist: str | os.PathLike,
    section: str,
    labels: Mapping[str, int] | None = None,
    dataset_dir: str | os.PathLike | None = None,
    *,
    need_label: bool = True,
    wanted: bool = True,
) -> list[dict[str, Any]]:
    """Return the items of one section of a data list, ready for transforms.

    Args:
        datalist: the JSON file.
        section: training, validation or test.
        labels: the model's {organ: id}; None takes the list's own.
        dataset_dir: folder that relative paths start from; None takes the JSON file's.
        need_label: every item must have a label map; False lets items go without.
        wanted: False returns no items and reads nothing, for a run that does without this section.

    Returns:
        Items with "case", "patient", absolute "image" and "label", "label_ids" ({id in the file: the model's id}, by
        organ name; 0 for what the model does not know or the item does not annotate) and "labelled" (the model's ids
        of the annotated organs, ascending).

    Raises:
        InputError: for a list that is no legal one (see `read_datalist`), an unknown or empty section, files that are
            missing, or annotations that have nothing in common with the model's labels.
    """
    if not wanted:
        return []
    plain = read_datalist(datalist)
    cases = _section(plain, section, datalist)
    base = Path(dataset_dir if dataset_dir is not None else Path(datalist).parent).expanduser().resolve()
    model_labels = check_labels(plain["labels"] if labels is None else labels)
    items = [resolve_item(case, plain, model_labels, base) for case in cases]
    _check_files(items, datalist, base, need_label)
    if section == "training":
        _tell_organs_without_examples(items, model_labels, plain, datalist)
    return items


def read_datalist(datalist: str | os.PathLike) -> dict[str, Any]:
    """Read a data list and check all that can be checked without its images.

    Returns:
        The plain JSON data; every section is there, and every item has "patient".

    Raises:
        InputError: if the file cannot be read, is no JSON, or is not a legal data list (see `check_datalist`).
    """
    path = Path(datalist).expanduser()
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"data list {str(datalist)!r} cannot be read: {error.strerror or error}; "
            "`python -m swin_umamba.data datalist` makes one"
        ) from error
    except ValueError as error:
        raise InputError(f"data list {str(datalist)!r} is not JSON: {error}") from error
    return check_datalist(plain, f"data list {str(datalist)!r}")


def check_datalist(plain: Any, where: str) -> dict[str, Any]:
    """Return a data list as plain data with the optional parts filled in, once it is a legal one.

    Args:
        plain: the data list.
        where: what to call it in messages.

    Raises:
        InputError: naming the place and what is legal, for anything that does not fit the schema, illegal label ids,
            an unknown organ under "labelled", a case name used twice, or a patient in two sections.
    """
    error = jsonschema.exceptions.best_match(jsonschema.Draft7Validator(SCHEMA).iter_errors(plain))
    if error is not None:
        raise InputError(f"{where}: {_place(error)}: {error.message}{_legal_keys(error)}")
    check_labels(plain["labels"], f"{where}: labels")
    sections = {section: [_with_patient(item) for item in plain.get(section, [])] for section in SECTIONS}
    for place, part in [("labelled", plain), *((i["case"], i) for items in sections.values() for i in items)]:
        check_organs(part.get("labelled", ()), plain["labels"], f"{where}: {place}")
    _check_names(sections, where)
    return {**plain, **sections}


def save_datalist(path: str | os.PathLike, datalist: Mapping[str, Any]) -> str:
    """Check a data list and write it atomically.

    Args:
        path: of the JSON file. Absolute paths of items become relative to its folder when they lie in it.
        datalist: plain data as in this module's description.

    Returns:
        The path.

    Raises:
        InputError: if it is no legal data list, or cannot be written there.
    """
    plain = check_datalist(dict(datalist), f"data list for {str(path)!r}")
    folder = Path(path).expanduser().resolve().parent
    for section in SECTIONS:
        plain[section] = [
            {key: _relative(value, folder) if key in FILE_KEYS else value for key, value in item.items()}
            for item in plain[section]
        ]
    with replace_file(Path(path).expanduser()) as temporary:
        temporary.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return str(path)


def _section(plain: Mapping[str, Any], section: str, datalist: str | os.PathLike) -> list[dict[str, Any]]:
    if not plain.get(section) or section not in SECTIONS:
        sizes = ", ".join(f"{name} ({len(plain[name])} cases)" for name in SECTIONS)
        problem = "has no cases" if section in SECTIONS else "does not exist"
        raise InputError(f"data list {str(datalist)!r}: section {section!r} {problem}; there are {sizes}")
    return plain[section]


def resolve_item(
    case: Mapping[str, Any], plain: Mapping[str, Any], labels: Mapping[str, int], base: Path
) -> dict[str, Any]:
    """Return an item with absolute paths and its ids in a model's terms.

    Args:
        case: an item of the data list.
        plain: the data list, as `read_datalist` returns it.
        labels: the model's {organ: id}.
        base: folder that relative paths start from.

    Raises:
        InputError: if nothing that was annotated is one of the model's organs.
    """
    organs = case.get("labelled", plain.get("labelled", list(plain["labels"])))
    annotated = {organ: number for organ, number in plain["labels"].items() if organ in organs}
    try:
        ids = map_label_ids(annotated, labels)
    except InputError as error:
        raise InputError(f"case {case['case']!r}: {error}") from error
    item = {key: value for key, value in case.items() if key != "labelled"}
    item.update({key: str(base / Path(case[key]).expanduser()) for key in FILE_KEYS if key in case})
    item["label_ids"] = {number: ids.get(number, 0) for number in plain["labels"].values()}
    item["labelled"] = sorted(number for number in ids.values() if number)
    return item


def _check_files(items: list[dict[str, Any]], datalist: str | os.PathLike, base: Path, need_label: bool) -> None:
    where = f"data list {str(datalist)!r}"
    without = [item["case"] for item in items if "label" not in item]
    if need_label and without:
        raise InputError(f"{where}: {len(without)} of {len(items)} cases have no label: {_some(without)}")
    missing = [item[key] for item in items for key in FILE_KEYS if key in item and not os.path.exists(item[key])]
    if missing:
        raise InputError(
            f"{where}: {len(missing)} files do not exist: {_some(missing)}; relative paths start at {str(base)!r}"
        )


def _tell_organs_without_examples(
    items: list[dict[str, Any]], labels: Mapping[str, int], plain: Mapping[str, Any], datalist: str | os.PathLike
) -> None:
    seen = {number for item in items for number in item["labelled"]}
    without = [organ for organ, number in labels.items() if number not in seen]
    if without:
        logger.warning(
            "data list %r: no training case annotates %s, so nothing can be learnt of it; the list's organs: %s",
            str(datalist), _some(without), ", ".join(plain["labels"]),
        )  # fmt: skip


def _check_names(sections: Mapping[str, list[dict[str, Any]]], where: str) -> None:
    cases: dict[str, str] = {}
    patients: dict[str, str] = {}
    for section, items in sections.items():
        for item in items:
            if item["case"] in cases:
                places = " and ".join(dict.fromkeys((cases[item["case"]], section)))
                raise InputError(f"{where}: case {item['case']!r} is there twice, in {places}; names must be unique")
            cases[item["case"]] = section
            if patients.setdefault(item["patient"], section) != section:
                raise InputError(
                    f"{where}: patient {item['patient']!r} is in both {patients[item['patient']]} and {section}; "
                    "all cases of a patient belong in one section"
                )


def _with_patient(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"case": item["case"], "patient": item.get("patient", item["case"]), **item}


def _relative(file: str, folder: Path) -> str:
    path = Path(file)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else file


def _place(error: jsonschema.ValidationError) -> str:
    return (
        "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)[1:] or "the file"
    )


def _legal_keys(error: jsonschema.ValidationError) -> str:
    keys = error.schema.get("properties") if isinstance(error.schema, dict) else None
    return f"; legal keys are {', '.join(keys)}" if keys else ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
