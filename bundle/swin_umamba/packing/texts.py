"""What a packed bundle says of itself to people: docs/README.md and docs/data_license.txt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from swin_umamba.models import ModelSpec

README = Path(__file__).with_name("readme.md").read_text(encoding="utf-8")

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
    organs = sorted(spec.labels.items(), key=lambda pair: pair[1])
    facts = {"training": spec.training, "scores": spec.scores or "not told", "patch": list(spec.roi_size)}
    return README.format(
        name=name,
        description=spec.description or "Organs, segmented slice by slice.",
        model=spec.name,
        version=spec.version,
        network=spec.network["name"],
        modality=spec.modality,
        spacing=f" at {spec.spacing[0]:g} x {spec.spacing[1]:g} mm" if spec.spacing else "",
        licence=spec.licence,
        organs="\n".join(f"| {number} | {organ} |" for organ, number in organs),
        files="; ".join(FILES[file] for file in ("model.pt", "model.yaml", *extras)),
        facts=yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=110),
    )


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
