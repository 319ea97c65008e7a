"""AMOS22 as distributed (Zenodo 7155725): MRI among CT, told apart by the number of the case."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from swin_umamba.data.formats import Source, read_msd
from swin_umamba.errors import InputError

logger = logging.getLogger(__name__)

CASE_NAME = re.compile(r"amos_(\d{4})")
FIRST_MR = 500  # cases below it are CT
TRAINING = frozenset(
    [507, 508, 510, 514, 517, 518, 522, 530, 532, 538, 540, 541, 548, 551, 554, 555, 557, 558, 570, 571, 578, 580]
    + [*range(582, 598), 599, 600]
)
VALIDATION = frozenset(
    [544, 545, 546, 547, 549, 550, 552, 553, 556, 559, 561, 562, 563, 568, 572, 573, 575, 576, 581, 598]
)
"""Numbers of the published MRI cases with label maps: 40 to train, 20 to validate. 41 more have no public labels."""


def read_amos(folder: str | os.PathLike) -> Source:
    """Read the MRI cases of AMOS22, with the published division and the labels by name.

    Args:
        folder: `amos22`, with dataset.json and `imagesTr`, `labelsTr`, `imagesVa`, `labelsVa`, `imagesTs` as unpacked.

    Returns:
        The cases that dataset.json lists with a number of 500 or more. Its training and validation lists are those
        sections; cases of its test list are unlabelled, because their label maps were not published.

    Raises:
        InputError: if dataset.json is missing or no such file, a case is not called `amos_<4 digits>`, or none is MRI.
    """
    source = read_msd(folder)
    for section, items in source.sections.items():
        source.sections[section] = [item for item in items if _number(item, folder) >= FIRST_MR]
    source.unlabelled = [item for item in source.unlabelled if _number(item, folder) >= FIRST_MR]
    for item in source.sections["test"]:
        if Path(item["label"]).is_file():
            raise InputError(f"{item['label']}: AMOS22 has no label maps of test cases; move it away, or use msd")
        source.unlabelled.append({key: value for key, value in item.items() if key != "label"})
    source.sections["test"] = []
    if not any(source.sections.values()):
        raise InputError(f"{str(folder)!r} lists no MRI with a label map; in AMOS22 that is amos_0500 and higher")
    source.about.update(name="AMOS22, MRI", modality="MR")
    _compare("training", source.sections["training"], TRAINING)
    _compare("validation", source.sections["validation"], VALIDATION)
    return source


def _number(item: dict[str, Any], folder: str | os.PathLike) -> int:
    match = CASE_NAME.fullmatch(item["case"])
    if match is None:
        raise InputError(f"{str(folder)!r} lists {item['image']}; legal in AMOS22: amos_<4 digits>.nii.gz")
    return int(match[1])


def _compare(section: str, items: list[dict[str, Any]], published: frozenset[int]) -> None:
    """Say how a section differs from the published one: scores on another division are not comparable."""
    found = {int(item["case"].removeprefix("amos_")) for item in items}
    for what, numbers in (("lacks", published - found), ("adds", found - published)):
        if numbers:
            names = ", ".join(f"amos_{number:04d}" for number in sorted(numbers))
            logger.warning(
                "%s: dataset.json %s %d cases of the published division: %s", section, what, len(numbers), names
            )
