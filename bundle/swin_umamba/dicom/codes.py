"""What DICOM calls our organs: SNOMED CT codes with laterality, and the project's colors as CIELab.

The codes are those of DICOM PS3.16 (CID 7150 for the category, CID 4 and CID 7166 for the organs, CID 244 for sides).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
from pydicom.sr.coding import Code
from skimage.color import rgb2lab

from swin_umamba.data.labels import organ_colour, organ_name
from swin_umamba.errors import InputError

ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")  # SNOMED CT's own name: Body structure
ORGAN = Code("113343008", "SCT", "Organ")  # of an organ that has no code in `ORGAN_CODES`
RIGHT, LEFT = Code("24028007", "SCT", "Right"), Code("7771000", "SCT", "Left")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")

_KIDNEY = Code("64033007", "SCT", "Kidney")
_ADRENAL_GLAND = Code("23451007", "SCT", "Adrenal gland")
_LUNG = Code("39607008", "SCT", "Lung")


@dataclasses.dataclass(frozen=True)
class OrganCode:
    """How an organ is coded: its category, its type and its side, None for an organ that has no twin."""

    type: Code
    laterality: Code | None = None
    category: Code = ANATOMICAL_STRUCTURE


ORGAN_CODES: dict[str, OrganCode] = {
    "liver": OrganCode(Code("10200004", "SCT", "Liver")),
    "right kidney": OrganCode(_KIDNEY, RIGHT),
    "left kidney": OrganCode(_KIDNEY, LEFT),
    "spleen": OrganCode(Code("78961009", "SCT", "Spleen")),
    "pancreas": OrganCode(Code("15776009", "SCT", "Pancreas")),
    "aorta": OrganCode(Code("15825003", "SCT", "Aorta")),
    "inferior vena cava": OrganCode(Code("64131007", "SCT", "Inferior vena cava")),
    "right adrenal gland": OrganCode(_ADRENAL_GLAND, RIGHT),
    "left adrenal gland": OrganCode(_ADRENAL_GLAND, LEFT),
    "gallbladder": OrganCode(Code("28231008", "SCT", "Gallbladder")),
    "esophagus": OrganCode(Code("32849002", "SCT", "Esophagus")),
    "stomach": OrganCode(Code("69695003", "SCT", "Stomach")),
    "duodenum": OrganCode(Code("38848004", "SCT", "Duodenum")),
    "bladder": OrganCode(Code("89837001", "SCT", "Bladder")),
    "small bowel": OrganCode(Code("30315005", "SCT", "Small intestine")),
    "colon": OrganCode(Code("71854001", "SCT", "Colon")),
    "heart": OrganCode(Code("80891009", "SCT", "Heart")),
    "right lung": OrganCode(_LUNG, RIGHT),
    "left lung": OrganCode(_LUNG, LEFT),
}


def organ_code(organ: str) -> OrganCode:
    """Return the codes of an organ, by its name in any spelling that `swin_umamba.data.labels.organ_name` knows.

    An organ that is not in `ORGAN_CODES` is coded as "Organ" of the category "Anatomical Structure" (SNOMED CT's "Body
    structure"), without a side; only its name, the segment's label, then tells which one it is.
    """
    return ORGAN_CODES.get(organ_name(organ), OrganCode(ORGAN))


def organ_of(type_value: str, side_value: str | None) -> str | None:
    """Return our name of the organ with these SNOMED CT code values of its type and its side, None if there is none."""
    wanted = (type_value, side_value)
    for organ, code in ORGAN_CODES.items():
        if wanted == (code.type.value, code.laterality.value if code.laterality else None):
            return organ
    return None


def label_of(what: str, names: Iterable[str | None], labels: Mapping[str, int]) -> int:
    """Return the id of the first of several names that labels know, in any spelling.

    Args:
        what: the thing that has these names, for the message.
        names: of one organ; None is passed over.
        labels: organ -> id.

    Raises:
        InputError: if none is known.
    """
    ids = {organ_name(organ): number for organ, number in labels.items()}
    spelled = [name for name in names if name]
    for name in spelled:
        if organ_name(name) in ids:
            return ids[organ_name(name)]
    raise InputError(f"{what} is called {' or '.join(map(repr, spelled))}; legal: {', '.join(labels)}")


def cielab_color(organ: str) -> list[int]:
    """Return the color that the project's pictures give an organ, as Recommended Display CIELab Value.

    L* from 0 to 100, a* and b* from -128 to 127 are each stretched to 0-65535 (PS3.3 C.10.7.1.1). The white point is
    D65, that of sRGB, which the viewers turn such values back with.
    """
    lab = rgb2lab(np.array(organ_colour(organ)) / 255)
    return [int(round(value)) for value in (lab - (0, -128, -128)) / (100, 255, 255) * 65535]
