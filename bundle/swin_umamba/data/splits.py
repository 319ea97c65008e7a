"""Dividing cases into training, validation and test so that no patient is in two of them."""

from __future__ import annotations

import dataclasses
import difflib
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from swin_umamba.data.datalist import SECTIONS
from swin_umamba.errors import InputError

Sections = dict[str, list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """How to divide the cases of a source that are not in a validation or test section already.

    Args:
        validation: share of the patients, 0 ≤ share < 1.
        test: likewise.
        validation_patients: named ones, instead of a share.
        test_patients: likewise.
        folds: parts of cross-validation, each of which is the validation section once; 0: none.
        seed: of the draw.
    """

    validation: float = 0.0
    test: float = 0.0
    validation_patients: Sequence[str] = ()
    test_patients: Sequence[str] = ()
    folds: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            share = getattr(self, name)
            if not 0 <= share < 1 and not (name == "test" and share == 1):
                also = "; --test 1 makes a list that is only for testing" if name == "test" else ""
                raise InputError(f"--{name} {share}: legal is a share of the patients from 0 to below 1{also}")
            if share and getattr(self, f"{name}_patients"):
                raise InputError(f"--{name} {share} and --{name}_patients: give one of the two")
        if self.validation + self.test >= 1 and (self.test < 1 or self.validation or self.validation_patients):
            raise InputError(f"--validation {self.validation} and --test {self.test} leave nothing to train on")
        if self.folds and (self.validation or self.validation_patients):
            raise InputError(f"--folds {self.folds} chooses the validation patients itself; leave --validation… out")
        if self.folds < 0 or self.folds == 1:
            raise InputError(f"--folds {self.folds}: legal is 2 or more")

    def takes(self, section: str) -> bool:
        """Tell whether the split puts cases into a section other than training."""
        asked = getattr(self, section) or getattr(self, f"{section}_patients")
        return bool(asked) or (section == "validation" and bool(self.folds))


def set_patients(sections: Mapping[str, list[dict[str, Any]]], pattern: str | None) -> Sections:
    """Return the sections with "patient" in each item.

    Args:
        sections: items by section.
        pattern: regular expression with one group, searched in the case's name; None keeps the patient that the source
            tells, or makes each case a patient.

    Raises:
        InputError: if the pattern is not one, has not exactly one group, or does not match a case.
    """
    expression = compile_pattern("patient_pattern", pattern) if pattern else None
    if expression is not None and expression.groups != 1:
        raise InputError(f"--patient_pattern {pattern!r} has {expression.groups} groups; legal is one: the patient")

    def patient_of(item: Mapping[str, Any]) -> str:
        case = item["case"]
        found = expression.search(case) if expression else None
        if expression and not (found and found.group(1)):
            raise InputError(f"--patient_pattern {pattern!r} finds no patient in the name of case {case!r}")
        return found.group(1) if found else item.get("patient", case)

    return {section: [{**item, "patient": patient_of(item)} for item in items] for section, items in sections.items()}


def compile_pattern(name: str, pattern: str) -> re.Pattern[str]:
    """Return a regular expression given on the command line as `--name`.

    Raises:
        InputError: if it is none.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(f"--{name} {pattern!r} is not a regular expression: {error}") from error


def split_sections(sections: Mapping[str, list[dict[str, Any]]], split: Split) -> list[Sections]:
    """Divide the training items of a source.

    Args:
        sections: items with "patient" by section, as the source has them.
        split: what to do.

    Returns:
        One division, or one for each fold.

    Raises:
        InputError: for an unknown patient, one in two sections, more folds than patients, nothing left to train on, or
            a section that the source brings already.
    """
    for section in ("validation", "test"):
        if split.takes(section) and sections.get(section):
            raise InputError(
                f"the source has its own {section} section ({len(sections[section])} cases); leave --{section}… "
                + ("and --folds out" if section == "validation" else "out")
            )
    patients = _sorted({item["patient"] for item in sections["training"]})
    held = _held_out(patients, split)
    free = [patient for patient in patients if patient not in held]
    if not split.folds:
        return [_divide(sections, held)]
    if split.folds > len(free):
        raise InputError(f"--folds {split.folds}: there are {len(free)} patients; legal is 2 to {len(free)}")
    random.Random(split.seed).shuffle(free)
    parts = [free[fold :: split.folds] for fold in range(split.folds)]
    return [_divide(sections, {**held, **dict.fromkeys(part, "validation")}) for part in parts]


def _held_out(patients: list[str], split: Split) -> dict[str, str]:
    """Return the section of each patient that is not for training."""
    held: dict[str, str] = {}
    for section in ("validation", "test"):
        for patient in getattr(split, f"{section}_patients"):
            if patient not in patients:
                raise InputError(f"--{section}_patients: unknown patient {patient!r}{_legal(patient, patients)}")
            if held.setdefault(patient, section) != section:
                raise InputError(f"patient {patient!r} is in both --validation_patients and --test_patients")
    free = [patient for patient in patients if patient not in held]
    random.Random(split.seed).shuffle(free)
    for section in ("test", "validation"):  # so that the test patients do not change with the share for validation
        share = getattr(split, section)
        count = max(1, round(share * len(patients))) if share else 0
        held.update(dict.fromkeys(free[:count], section))
        free = free[count:]
    if patients and not free and split.test < 1:
        raise InputError(f"the split of {len(patients)} patients leaves none to train on; ask for smaller parts")
    return held


def _divide(sections: Mapping[str, list[dict[str, Any]]], held: Mapping[str, str]) -> Sections:
    divided = {section: list(sections.get(section, [])) for section in SECTIONS[1:]}
    divided = {"training": [], **divided}
    for item in sections["training"]:
        divided[held.get(item["patient"], "training")].append(item)
    return divided


def _sorted(names: set[str]) -> list[str]:
    """Sort with numbers by their value, so that the draw does not depend on leading zeros or the order of files."""
    return sorted(names, key=lambda name: [(part.isdigit(), int(part) if part.isdigit() else 0, part)
                                           for part in re.split(r"(\d+)", name)])  # fmt: skip


def _legal(patient: str, patients: list[str]) -> str:
    close = difflib.get_close_matches(patient, patients, n=1)
    shown = ", ".join(patients[:20]) + (f", … ({len(patients)} in all)" if len(patients) > 20 else "")
    return (f" (did you mean {close[0]!r}?)" if close else "") + f"; legal: {shown}"
