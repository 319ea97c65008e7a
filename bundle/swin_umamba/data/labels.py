"""Organ names, their ids in the label files of each dataset, and their colours.

Organs are matched **by name**, never by id: every dataset numbers them differently. A table below is
{our organ name: id in that dataset's label files}; organs without a counterpart in AbdomenMRI keep a name of their own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from swin_umamba.errors import InputError

ABDOMEN_MRI = "abdomen_mri"

_ABDOMEN_MRI_ORGANS = (
    "liver",
    "right kidney",
    "spleen",
    "pancreas",
    "aorta",
    "inferior vena cava",
    "right adrenal gland",
    "left adrenal gland",
    "gallbladder",
    "esophagus",
    "stomach",
    "duodenum",
    "left kidney",
)

_ABDOMEN_MRI_LABELS = {organ: number for number, organ in enumerate(_ABDOMEN_MRI_ORGANS, start=1)}

LABEL_TABLES: dict[str, dict[str, int]] = {
    ABDOMEN_MRI: _ABDOMEN_MRI_LABELS,
    "dataset702_abdomenmr": dict(_ABDOMEN_MRI_LABELS),
    "amos22": {
        "spleen": 1,
        "right kidney": 2,
        "left kidney": 3,
        "gallbladder": 4,
        "esophagus": 5,
        "liver": 6,
        "stomach": 7,
        "aorta": 8,
        "inferior vena cava": 9,
        "pancreas": 10,
        "right adrenal gland": 11,
        "left adrenal gland": 12,
        "duodenum": 13,
        "bladder": 14,
        "prostate/uterus": 15,
    },
    "chaos_t2spir": {"liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4},
    "endovis17": {
        "bipolar forceps": 1,
        "prograsp forceps": 2,
        "large needle driver": 3,
        "vessel sealer": 4,
        "grasping retractor": 5,
        "monopolar curved scissors": 6,
        "ultrasound probe": 7,
    },
    "neurips_cellseg": {"interior": 1, "boundary": 2},
    "totalsegmentator_mr": {
        "spleen": 1,
        "right kidney": 2,
        "left kidney": 3,
        "gallbladder": 4,
        "liver": 5,
        "stomach": 6,
        "pancreas": 7,
        "right adrenal gland": 8,
        "left adrenal gland": 9,
        "left lung": 10,
        "right lung": 11,
        "esophagus": 12,
        "small bowel": 13,
        "duodenum": 14,
        "colon": 15,
        "bladder": 16,
        "prostate/uterus": 17,
        "sacrum": 18,
        "vertebrae": 19,
        "intervertebral discs": 20,
        "spinal cord": 21,
        "heart": 22,
        "aorta": 23,
        "inferior vena cava": 24,
        "portal and splenic vein": 25,
        "left autochthon": 46,
        "right autochthon": 47,
        "left iliopsoas": 48,
        "right iliopsoas": 49,
    },
}
"""Label tables by dataset: AbdomenMRI and Dataset702 (the same), AMOS22 (Zenodo 7155725), CHAOS (any sequence)
with the ids 1-4 instead of grey values, EndoVis17 (Dataset704), the NeurIPS cells (Dataset703), TotalSegmentator's
`total_mr` task."""

# Spellings found in published dataset.json files, all as lower case with single blanks -> our name.
_SYNONYMS = {
    "arota": "aorta",
    "oesophagus": "esophagus",
    "gall bladder": "gallbladder",
    "postcava": "inferior vena cava",
    "ivc": "inferior vena cava",
    "right adrenal": "right adrenal gland",
    "left adrenal": "left adrenal gland",
    "adrenal gland right": "right adrenal gland",
    "adrenal gland left": "left adrenal gland",
    "rag": "right adrenal gland",
    "lag": "left adrenal gland",
    "kidney right": "right kidney",
    "kidney left": "left kidney",
    "urinary bladder": "bladder",
}

COLOURS: dict[str, tuple[int, int, int]] = {  # neighbours in the body differ in hue
    "liver": (221, 130, 101),
    "right kidney": (64, 156, 255),
    "spleen": (178, 102, 255),
    "pancreas": (255, 200, 60),
    "aorta": (230, 30, 40),
    "inferior vena cava": (30, 60, 220),
    "right adrenal gland": (0, 230, 180),
    "left adrenal gland": (160, 255, 60),
    "gallbladder": (30, 140, 50),
    "esophagus": (255, 170, 200),
    "stomach": (255, 90, 200),
    "duodenum": (150, 90, 30),
    "left kidney": (0, 210, 255),
    "bladder": (222, 154, 132),
    "prostate/uterus": (230, 158, 140),
    "bipolar forceps": (64, 156, 255),
    "prograsp forceps": (255, 200, 60),
    "large needle driver": (0, 230, 180),
    "vessel sealer": (178, 102, 255),
    "grasping retractor": (255, 90, 200),
    "monopolar curved scissors": (160, 255, 60),
    "ultrasound probe": (230, 30, 40),
    "interior": (0, 230, 180),
    "boundary": (255, 200, 60),
}
_OTHER_COLOURS = ((102, 194, 165), (252, 141, 98), (141, 160, 203), (231, 138, 195), (166, 216, 84), (229, 196, 148))


def organ_name(spelling: str) -> str:
    """Return our name of an organ for a dataset's spelling (`Arota` -> `aorta`, `left_kidney` -> `left kidney`).

    Args:
        spelling: name in any case, with blanks, underscores or hyphens; an unknown name stays as it is but for those.
    """
    name = " ".join(spelling.lower().replace("_", " ").replace("-", " ").split())
    return _SYNONYMS.get(name, name)


def label_table(name: str) -> dict[str, int]:
    """Return a copy of the label table {organ: id} called `name`.

    Raises:
        InputError: when there is no such table; the message lists those that exist.
    """
    key = name.strip().lower()
    if key not in LABEL_TABLES:
        raise InputError(f"unknown label table {name!r}{_closest(key, LABEL_TABLES)}; legal: {', '.join(LABEL_TABLES)}")
    return dict(LABEL_TABLES[key])


def organ_colour(organ: str) -> tuple[int, int, int]:
    """Return the colour (red, green, blue; each 0-255) to draw an organ in; the same one in every run."""
    if organ in COLOURS:
        return COLOURS[organ]
    return _OTHER_COLOURS[sum(organ.encode()) % len(_OTHER_COLOURS)]


def check_labels(labels: Mapping[str, int], where: str = "labels") -> dict[str, int]:
    """Return `labels` as a plain dict once it is a legal table: at least one organ, ids unique integers from 1 to 255.

    Args:
        labels: {organ: id}.
        where: what the table belongs to, named in messages.

    Raises:
        InputError: for an empty table, an id that is illegal or used twice, an organ without a name.
    """
    if not isinstance(labels, Mapping) or not labels:
        raise InputError(f"{where} is {labels!r}; it must map at least one organ name to its id")
    owner: dict[int, str] = {}
    for organ, number in labels.items():
        if not isinstance(organ, str) or not organ.strip():
            raise InputError(f"{where}: {organ!r} is not an organ name")
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 255:
            raise InputError(f"{where}: the id of {organ!r} is {number!r}; legal are the integers from 1 to 255")
        if number in owner:
            raise InputError(f"{where}: the id {number} belongs to both {owner[number]!r} and {organ!r}")
        owner[number] = organ
    return dict(labels)


def check_organs(organs: Iterable[str], labels: Mapping[str, int], where: str) -> list[str]:
    """Return `organs` as a list once each of them is in `labels`.

    Raises:
        InputError: naming the first organ that is not there, the closest names and all legal ones.
    """
    organs = list(organs)
    for organ in organs:
        if organ not in labels:
            legal = ", ".join(labels)
            raise InputError(f"{where}: unknown organ {organ!r}{_closest(organ, labels)}; legal: {legal}")
    return organs


def map_label_ids(
    file_labels: Mapping[str, int], model_labels: Mapping[str, int], organs: Iterable[str] | None = None
) -> dict[int, int]:
    """Map the ids of label files to those of a model by organ name.

    Args:
        file_labels: {organ: id in the label files}.
        model_labels: {organ: id of the model}.
        organs: organs that must be known to `file_labels`, such as those of a command line; None asks nothing.

    Returns:
        {id in the file: id of the model}, 0 for an organ that the model does not know.

    Raises:
        InputError: when an organ of `organs` is unknown, or when not one organ is shared.
    """
    if organs is not None:
        check_organs(organs, file_labels, "organs")
    mapping = {number: model_labels.get(organ, 0) for organ, number in file_labels.items()}
    if not any(mapping.values()):
        raise InputError(
            f"the label files hold none of the model's organs: files {', '.join(file_labels)}; "
            f"model {', '.join(model_labels)}"
        )
    return mapping


def _closest(name: str, legal: Iterable[str]) -> str:
    matches = difflib.get_close_matches(organ_name(name), list(legal), n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(match) for match in matches)}?)" if matches else ""
