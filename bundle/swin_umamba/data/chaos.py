"""CHAOS as distributed (Zenodo 3431873): MRI as DICOM files, label maps as one PNG for each slice.

A PNG belongs to the DICOM file of its own name, and that file's header says where in the body the slice lies. The order
of the names is no guide: it may run from head to feet or from feet to head. T1-DUAL has two echoes of every slice, in
and out of phase, with names of their own; its one set of PNGs is named after one of the two and is carried over to the
other by the position of the slices.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image, UnidentifiedImageError

from swin_umamba.data.formats import Source
from swin_umamba.data.labels import label_table
from swin_umamba.dicom.series import Plane, Stack, files_of_folder, planes_of, read_header, stack_slices
from swin_umamba.errors import InputError
from swin_umamba.files import replace_file

GREY_VALUES = {63: 1, 126: 2, 189: 3, 252: 4}  # of the PNGs -> id: liver, right kidney, left kidney, spleen
IMAGES, GROUND_TRUTH = "DICOM_anon", "Ground"
SEQUENCES = {  # name -> folder of the patient, and of the images in it
    "t2spir": ("T2SPIR", IMAGES),
    "t1_in": ("T1DUAL", f"{IMAGES}/InPhase"),
    "t1_out": ("T1DUAL", f"{IMAGES}/OutPhase"),
}
SAME_SLICE = 0.05  # mm between the two echoes of one slice
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclasses.dataclass(frozen=True)
class _Sequence:
    """One image of one patient: what it is called, and the folders of all patients, of the slices and of the PNGs."""

    case: str
    patient: str
    root: Path
    images: Path
    ground_truth: Path
    other_echo: Path | None = None


def read_chaos(folder: str | os.PathLike, label_dir: str | os.PathLike, sequences: tuple[str, ...]) -> Source:
    """Read MRI of CHAOS and write its label maps as NIfTI on the images' own grids.

    Args:
        folder: as unpacked: one that holds `MR/<patient>/…` at any depth, such as `Train_Sets`, or `MR` itself.
        label_dir: gets `chaos_<patient>_<sequence>.nii.gz` with ids 1 to 4, after all files were checked.
        sequences: of `SEQUENCES`.

    Returns:
        Cases `chaos_<patient>_<sequence>` whose "image" is the folder of DICOM files; those of one patient belong
        together. Where no patient of an `MR` folder has `Ground` (the published test set), all are unlabelled.

    Raises:
        InputError: for an unknown sequence, no such data, or naming each file that is missing, damaged, of another size
            than its image, or holds another grey value.
    """
    unknown = [name for name in sequences if name not in SEQUENCES]
    if unknown or not sequences:
        raise InputError(f"--sequence {','.join(sequences)!r}; legal are {', '.join(SEQUENCES)}, parted by commas")
    found = _find(Path(folder).expanduser().resolve(), sequences)
    source = Source(
        labels=label_table("chaos_t2spir"), sections={"training": []}, unlabelled=[], about=_about(sequences)
    )
    problems: list[str] = []
    label_maps: dict[Path, nib.Nifti1Image] = {}
    labelled = {sequence.root for sequence in found if sequence.ground_truth.is_dir()}
    for sequence in found:
        item = {"case": sequence.case, "patient": sequence.patient, "image": str(sequence.images)}
        try:
            if sequence.root in labelled:
                path = Path(label_dir).expanduser().resolve() / f"{sequence.case}.nii.gz"
                label_maps[path] = _label_map(sequence)
                source.sections["training"].append({**item, "label": str(path)})
            else:
                _stack(sequence.images)
                source.unlabelled.append(item)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("; ".join(problems))
    for path, label_map in label_maps.items():
        with replace_file(path) as temporary:
            nib.save(label_map, temporary)
    return source


def _about(sequences: tuple[str, ...]) -> dict[str, str]:
    return {
        "name": "CHAOS, MRI",
        "description": f"CHAOS challenge (Kavur et al. 2021), {', '.join(sequences)}",
        "modality": "MR",
        "licence": "CC BY-NC-SA 4.0",
    }


def _find(folder: Path, sequences: tuple[str, ...]) -> list[_Sequence]:
    """Return the images of all patients, by number."""
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is no folder; legal: Train_Sets or Test_Sets of CHAOS")
    roots = [folder] if folder.name == "MR" else sorted(path for path in folder.rglob("MR") if path.is_dir())
    patients = [path for root in roots for path in root.iterdir() if path.is_dir() and path.name.isdigit()]
    found = []
    for patient in sorted(patients, key=lambda path: int(path.name)):
        for name in sequences:
            part, images = SEQUENCES[name]
            echoes = {"t1_in": "t1_out", "t1_out": "t1_in"}
            other = patient / "T1DUAL" / SEQUENCES[echoes[name]][1] if name in echoes else None
            number = f"{int(patient.name):02d}"
            place = patient / part
            found.append(
                _Sequence(f"chaos_{number}_{name}", number, patient.parent, place / images, place / GROUND_TRUTH, other)
            )
    if not found:
        raise InputError(f"{str(folder)!r} holds no MR/<number> folders; legal: Train_Sets or Test_Sets of CHAOS")
    return found


def _label_map(sequence: _Sequence) -> nib.Nifti1Image:
    """Return the label map (column, row, slice) of a sequence on the grid that its DICOM files have as a volume."""
    if not sequence.ground_truth.is_dir():
        raise InputError(f"{sequence.ground_truth} is missing")
    stack = _stack(sequence.images)
    drawings = {path.stem: path for path in sorted(sequence.ground_truth.glob("*.png"))}
    names = [Path(plane.file).stem for plane in stack.planes]
    if sequence.other_echo is not None and not set(names) & set(drawings):
        names = _names_by_place(stack, _stack(sequence.other_echo))
    missing = [str(sequence.ground_truth / f"{name}.png") for name in names if name not in drawings]
    surplus = [f"{path} has no DICOM file of its name" for name, path in drawings.items() if name not in names]
    problems = [f"{path} is missing" for path in missing] + surplus
    slices = []
    for name in names:
        try:
            slices.append(_read_drawing(drawings[name], stack.planes[0].size) if name in drawings else None)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("; ".join(problems))
    voxels = np.stack([ids.T for ids in slices if ids is not None], axis=2)  # S x (row, column) -> (column, row, S)
    affine = LPS_TO_RAS @ stack.affine
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    return image


def _stack(folder: Path) -> Stack:
    """Return the slices of a folder in the order of their place in the body."""
    if not folder.is_dir():
        raise InputError(f"{folder} is missing")
    try:
        planes: list[Plane] = [
            plane for file in files_of_folder(folder) for plane in planes_of(file, read_header(file))
        ]
        return stack_slices(planes)
    except InputError as error:
        raise InputError(str(error) if str(folder) in str(error) else f"{folder}: {error}") from error


def _names_by_place(stack: Stack, other: Stack) -> list[str]:
    """Return the names of the other echo's files that lie where the slices of `stack` do, in its order."""
    names = []
    for plane in stack.planes:
        nearest = min(other.planes, key=lambda candidate: float(np.linalg.norm(candidate.position - plane.position)))
        gap = float(np.linalg.norm(nearest.position - plane.position))
        if gap > SAME_SLICE:
            raise InputError(
                f"{plane.file} has no slice of the other echo at its place; the nearest is {gap:.3g} mm off"
            )
        names.append(Path(nearest.file).stem)
    return names


def _read_drawing(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return the ids (row, column) of one PNG.

    Args:
        path: the PNG.
        size: rows and columns of the DICOM image.
    """
    try:
        with Image.open(path) as image:
            grey = np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if grey.shape != size:
        raise InputError(
            f"{path} has {' x '.join(map(str, grey.shape))} pixels; legal is its image's {size[0]} x {size[1]}"
        )
    ids = np.zeros(grey.shape, np.uint8)
    for value, number in GREY_VALUES.items():
        ids[grey == value] = number
    others = np.unique(grey[(ids == 0) & (grey != 0)])
    if len(others):
        legal = ", ".join(map(str, GREY_VALUES))
        raise InputError(f"{path} has grey values {others[:5].tolist()}; legal are 0, {legal}")
    return ids
