"""Small data sets on disk, and phantoms that are made once for the whole folder."""

from __future__ import annotations

import pytest
from helpers_data import ORGANS, write_json, write_pair
from swin_umamba.data.phantom import make_phantom


@pytest.fixture
def folder(tmp_path):
    """Ten cases in images/ and labels/, two of each of five patients."""
    root = tmp_path / "set"
    for patient in range(1, 6):
        for visit in "ab":
            name = f"p{patient:02d}_{visit}.nii.gz"
            write_pair(root / "images" / name, root / "labels" / name, 10 * patient + ord(visit))
    return root


@pytest.fixture
def nnunet(tmp_path):
    """Three training cases, two test cases of which one has a label map."""
    root = tmp_path / "Dataset702_AbdomenMR"
    for number in range(3):
        case = f"MR_{number:03d}"
        write_pair(root / f"imagesTr/{case}_0000.nii.gz", root / f"labelsTr/{case}.nii.gz", number)
    for number in (1, 8):
        case = f"MR_{number:03d}"
        label = root / f"labelsTs/{case}.nii.gz" if number == 8 else None
        write_pair(root / f"imagesTs/{case}_0000.nii.gz", label, 100 + number)
    labels = {"background": 0, "Liver": 1, "kidney_right": 2, "kidney_left": 3, "spleen": 4}
    write_json(
        root / "dataset.json",
        {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 3, "file_ending": ".nii.gz"},
    )
    return root


@pytest.fixture
def msd(tmp_path):
    """Two training cases, one for validation and two images without label map, as AMOS22 lists them."""
    root = tmp_path / "Task09"
    for case, part in (("a_0501", "Tr"), ("a_0001", "Tr"), ("a_0502", "Va"), ("a_0600", "Ts"), ("a_0601", "Ts")):
        label = None if part == "Ts" else root / f"labels{part}/{case}.nii.gz"
        write_pair(root / f"images{part}/{case}.nii.gz", label, int(case[2:]))

    def listed(part: str, *cases: str) -> list[dict]:
        return [{"image": f"./images{part}/{c}.nii.gz", "label": f"./labels{part}/{c}.nii.gz"} for c in cases]

    plain = {
        "name": "AMOS",
        "description": "a small one",
        "licence": "CC-BY 4.0",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "liver", "2": "right kidney", "3": "left kidney", "4": "Spleen"},
        "numTraining": 2,
        "training": listed("Tr", "a_0501", "a_0001"),
        "validation": listed("Va", "a_0502"),
        "test": ["./imagesTs/a_0600.nii.gz", {"image": "./imagesTs/a_0601.nii.gz"}],
    }
    write_json(root / "dataset.json", plain)
    return root


@pytest.fixture
def listed(folder):
    """A legal data list of the folder, as plain data, and where to write it."""
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (folder / "images").iterdir())
    items = [{"case": c, "patient": c[:3], "image": f"images/{c}.nii.gz", "label": f"labels/{c}.nii.gz"} for c in cases]
    plain = {"name": "small", "labels": dict(ORGANS)}
    plain |= {"training": items[:6], "validation": items[6:8], "test": items[8:]}
    return plain, folder / "data.json"


@pytest.fixture(scope="session")
def phantoms():
    """Eleven phantoms: (image, label, affine) by seed."""
    return {seed: make_phantom(seed) for seed in range(11)}
