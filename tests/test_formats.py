from __future__ import annotations

import pytest
from swin_umamba.errors import InputError
from swin_umamba.formats import formats_of_series, output_formats


@pytest.mark.parametrize(
    ("chosen", "formats"),
    [
        ("nifti", ("nifti",)),
        ("dicom_seg", ("dicom_seg",)),
        ("nifti, dicom_seg", ("nifti", "dicom_seg")),
        (("rtstruct", "nifti"), ("rtstruct", "nifti")),  # what a command line makes of a comma
        (["nifti", "nifti"], ("nifti",)),
    ],
)
def test_formats_that_are_named_are_chosen(chosen: object, formats: tuple[str, ...]) -> None:
    assert output_formats(chosen) == formats
    assert formats_of_series(chosen) == tuple(name for name in formats if name != "nifti")


@pytest.mark.parametrize("chosen", ["", "nifty", "nifti,,dicom_seg", []])
def test_unknown_format_is_refused(chosen: object) -> None:
    with pytest.raises(InputError, match="legal: one or several of nifti, dicom_seg, rtstruct"):
        output_formats(chosen)
