from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes
from skimage.color import lab2rgb
from swin_umamba.data.labels import LABEL_TABLES, organ_colour
from swin_umamba.dicom.codes import ORGAN_CODES, cielab_color, label_of, organ_code, organ_of
from swin_umamba.errors import InputError

ABDOMEN = {  # SNOMED CT codes of PS3.16, and the side
    "liver": ("10200004", None),
    "right kidney": ("64033007", "24028007"),
    "left kidney": ("64033007", "7771000"),
    "spleen": ("78961009", None),
    "pancreas": ("15776009", None),
    "aorta": ("15825003", None),
    "inferior vena cava": ("64131007", None),
    "right adrenal gland": ("23451007", "24028007"),
    "left adrenal gland": ("23451007", "7771000"),
    "gallbladder": ("28231008", None),
    "esophagus": ("32849002", None),
    "stomach": ("69695003", None),
    "duodenum": ("38848004", None),
}


def test_every_organ_of_the_abdomen_has_its_code() -> None:
    assert set(ABDOMEN) == set(LABEL_TABLES["abdomen_mri"])
    for organ, (kind, side) in ABDOMEN.items():
        code = organ_code(organ)
        assert (code.type.value, code.laterality.value if code.laterality else None) == (kind, side), organ
        assert (code.category.value, code.category.scheme_designator) == ("123037004", "SCT")


def test_codes_are_those_of_pydicom() -> None:
    for organ, code in ORGAN_CODES.items():
        keyword = "".join(word.capitalize() for word in code.type.meaning.split())
        assert getattr(codes.SCT, keyword).value == code.type.value, organ


def test_no_two_organs_share_their_codes() -> None:
    found = [organ_of(c.type.value, c.laterality.value if c.laterality else None) for c in ORGAN_CODES.values()]
    assert found == list(ORGAN_CODES)
    assert organ_of("64033007", None) is None  # a kidney of no side


def test_spelling_does_not_matter_and_an_unknown_organ_is_an_organ() -> None:
    assert organ_code("Left_Kidney") == organ_code("left kidney")
    unknown = organ_code("prostate/uterus")
    assert (unknown.type.value, unknown.type.meaning, unknown.laterality) == ("113343008", "Organ", None)
    assert unknown.category.value == "123037004"


@pytest.mark.parametrize("organ", [*ABDOMEN, "an organ without a color"])
def test_color_is_that_of_the_pictures(organ: str) -> None:
    lightness, a, b = (value / 65535 for value in cielab_color(organ))
    back = lab2rgb([lightness * 100, a * 255 - 128, b * 255 - 128]) * 255
    assert [round(value) for value in back] == list(organ_colour(organ))


def test_cielab_of_a_known_color() -> None:
    # sRGB (221, 130, 101) is L* 63.57, a* 32.18, b* 30.73 under D65
    assert cielab_color("liver") == [41663, 41166, 40794]


def test_names_are_matched_in_order() -> None:
    labels = {"liver": 1, "left kidney": 2}
    assert label_of("segment 4", ["Left_Kidney", "liver"], labels) == 2
    assert label_of("segment 4", ["lesion", "liver"], labels) == 1
    with pytest.raises(InputError, match="segment 4 is called 'lesion'; legal: liver, left kidney"):
        label_of("segment 4", ["lesion", None], labels)
