"""What a packed bundle says of itself to people: docs/README.md and docs/data_license.txt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from swin_umamba.models import ModelSpec
from swin_umamba.photographs import LEGAL_PHOTOGRAPHS, MODALITIES

README = Path(__file__).with_name("readme.md").read_text(encoding="utf-8")

IMAGES = {
    False: "a NIfTI, NRRD or MetaImage file, a folder with a DICOM series, or a folder of many of these",
    True: f"a photograph ({LEGAL_PHOTOGRAPHS}), or a folder of many of these",
}
FILES = {
    "model.pt": "`model.pt`, a state dict (`torch.load(…, weights_only=True)`)",
    "model.yaml": "`model.yaml`, what the weights are",
    "model.ts": "`model.ts`, TorchScript that loads without this code",
    "model.onnx": "`model.onnx`, ONNX for slices whose sides are multiples of 32",
}


def readme(spec: ModelSpec, name: str, extras: Sequence[str]) -> str:
    """Return docs/README.md.

    Args:
        spec: of the model.
        name: of the bundle.
        extras: files beside model.pt and model.yaml.
    """
    labels = sorted(spec.labels.items(), key=lambda pair: pair[1])
    spacing = f" at {spec.spacing[0]:g} x {spec.spacing[1]:g} mm" if spec.spacing else ""
    photographs = f"photographs ({MODALITIES.get(spec.modality)})"
    facts = {"training": spec.training, "scores": spec.scores or "not told", "patch": list(spec.roi_size)}
    return README.format(
        name=name,
        description=description_of(spec),
        model=spec.name,
        version=spec.version,
        network=spec.network["name"],
        slices=photographs if spec.photographs else f"axial slices of {spec.modality}{spacing}",
        images=IMAGES[spec.photographs],
        noun=noun_of(spec),
        licence=spec.licence,
        labels="\n".join(f"| {number} | {label} |" for label, number in labels),
        files="; ".join(FILES[file] for file in ("model.pt", "model.yaml", *extras)),
        facts=yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=110),
    )


def description_of(spec: ModelSpec) -> str:
    """Return what the model says of itself, or what its images and labels tell."""
    return spec.description or f"{noun_of(spec).capitalize()}s, segmented in {spec.modality} slice by slice."


def noun_of(spec: ModelSpec) -> str:
    """Return what one label of a model stands for."""
    return "label" if spec.photographs else "organ"


def data_licence(spec: ModelSpec, general: str) -> str:
    """Return docs/data_license.txt: the terms of this model's data, then what is known of common sources.

    Args:
        spec: of the model.
        general: the bundle's own text.
    """
    lines = [
        f"Weights of {spec.name} {spec.version}: {spec.licence}",
        f"Trained on: {spec.training.get('data', 'not told')}",
        "",
        "Weights inherit the terms of the data that they are trained on. This file holds no images.",
    ]
    known = [line for line in general.splitlines() if line.startswith("- ")]
    return "\n".join([*lines, "", "Common sources:", *known]) + "\n"
