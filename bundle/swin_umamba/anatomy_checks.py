"""Remarks on label maps that no body looks like: sides exchanged, organs too large, in pieces, or cut off."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from scipy import ndimage

from swin_umamba.case_warnings import warn_of_case
from swin_umamba.data.labels import organ_name

# (more to the patient's right, more to the patient's left); situs inversus exists, but is rare
RIGHT_OF = (
    ("right kidney", "left kidney"),
    ("right adrenal gland", "left adrenal gland"),
    ("liver", "spleen"),
    ("inferior vena cava", "aorta"),
    ("liver", "stomach"),
    ("gallbladder", "spleen"),
)
# mL; beyond what diseases make of them, so a larger one is hardly the organ
LARGEST = {
    "liver": 6000,
    "spleen": 5000,
    "right kidney": 2500,
    "left kidney": 2500,
    "pancreas": 400,
    "aorta": 800,
    "inferior vena cava": 500,
    "gallbladder": 600,
    "stomach": 5000,
    "duodenum": 500,
    "esophagus": 200,
    "right adrenal gland": 150,
    "left adrenal gland": 150,
}
THROUGH = ("aorta", "inferior vena cava", "esophagus")  # go on beyond any image of the abdomen
WHOLE = 0.8  # share of an organ's voxels that hang together in a result worth trusting


def warn_of_anatomy(labels: MetaTensor, organs: Mapping[str, int]) -> None:
    """Say through `warn_of_case` what about a label map cannot be, or makes an organ's volume a part of the truth.

    Args:
        labels: label map (1, X, Y, Z) with its affine, in any orientation.
        organs: organ -> id.
    """
    voxels = MetaTensor(Orientation("RAS", labels=None)(labels)).as_tensor()[0].to(torch.uint8).cpu().numpy()
    voxel_ml = abs(float(np.linalg.det(labels.affine.cpu().numpy()[:3, :3]))) / 1000
    boxes = ndimage.find_objects(voxels, max_label=max(organs.values(), default=0))
    centers: dict[str, float] = {}
    cut: list[str] = []
    for organ, number in organs.items():
        box = boxes[number - 1]
        if box is None:
            continue
        mask = voxels[box] == number
        name = organ_name(organ)
        centers[name] = box[0].start + float(np.average(np.arange(mask.shape[0]), weights=mask.sum(axis=(1, 2))))
        _check_organ(name, mask, voxel_ml)
        if name not in THROUGH and (box[2].start == 0 or box[2].stop == voxels.shape[2]):
            cut.append(name)
    if cut:
        warn_of_case(f"in the first or last slice, so perhaps not imaged as a whole: {', '.join(cut)}")
    if not centers:
        warn_of_case("no organ was found")
    for right, left in RIGHT_OF:
        if right in centers and left in centers and centers[right] <= centers[left]:
            warn_of_case(f"{right} lies left of {left}: are left and right of the image exchanged?")


def _check_organ(name: str, mask: np.ndarray, voxel_ml: float) -> None:
    """Look at the size and the coherence of one organ's mask (x, y, z)."""
    size = int(mask.sum())
    largest = LARGEST.get(name)
    if largest is not None and size * voxel_ml > largest:
        warn_of_case(f"{name} of {size * voxel_ml:.0f} mL: more than {largest} mL is not this organ")
    pieces, count = ndimage.label(mask)
    if count > 1:
        share = int(np.bincount(pieces.ravel())[1:].max()) / size
        if share < WHOLE:
            warn_of_case(f"{name} is in {count} pieces, the largest {share:.0%} of it")
