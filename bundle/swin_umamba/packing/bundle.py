"""Packing the bundle with one model into a zip that is a valid MONAI bundle anywhere, code and weights included."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from monai.networks.utils import convert_to_torchscript

from swin_umamba import __version__
from swin_umamba.errors import InputError
from swin_umamba.files import replace_file
from swin_umamba.installation import INSIDE, PACKAGE, bundle_root
from swin_umamba.models import SPEC_FILE, WEIGHTS_FILE, Model, load_model
from swin_umamba.packing.texts import data_licence, description_of, noun_of, readme
from swin_umamba.photographs import LEGAL_PHOTOGRAPHS

EXTRAS = {"torchscript": "model.ts", "onnx": "model.onnx"}
BUNDLE_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
OVERLAY = "continue_training.yaml"
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every entry: the same content gives the same file


@dataclasses.dataclass(frozen=True)
class Packed:
    """A packed bundle.

    Args:
        path: of the zip.
        name: of the bundle, and of the one folder in the zip.
        files: in it, relative to that folder.
    """

    path: Path
    name: str
    files: tuple[str, ...]


def pack(
    model: str | os.PathLike,
    output: str | os.PathLike,
    *,
    name: str | None = None,
    include: Sequence[str] = (),
) -> Packed:
    """Pack the bundle with a model.

    Args:
        model: folder with model.pt and model.yaml.
        output: the zip to write; written whole or not at all.
        name: of the bundle; None takes the zip's name.
        include: of `EXTRAS`: the network as TorchScript or ONNX beside model.pt. Each is run and compared first.

    Raises:
        InputError: for a name or an extra that is not legal, a model that cannot be loaded, or an export that differs.
    """
    output = Path(output).expanduser()
    name = output.stem if name is None else name
    if output.suffix != ".zip":
        raise InputError(f"--output {str(output)!r}: legal: a name that ends in .zip")
    if not re.fullmatch(BUNDLE_NAME, name):
        raise InputError(
            f"name of the bundle {name!r}: legal: letters, digits, _ and -, beginning with one of the first"
        )
    unknown = [extra for extra in include if extra not in EXTRAS]
    if unknown:
        raise InputError(f"--include {','.join(unknown)}: legal: {', '.join(EXTRAS)}")
    loaded = load_model(model)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / name
        _write_bundle(root, loaded, name, include)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        with replace_file(output) as temporary:
            _zip(temporary, files, root.parent)
        return Packed(output, name, tuple(file.relative_to(root).as_posix() for file in files))


def describe_bundle(metadata: Mapping[str, Any], model: Model, name: str) -> dict[str, Any]:
    """Return the bundle's metadata.json for one model: its version, classes, channels and patch.

    Args:
        metadata: of the bundle without a model.
        model: to describe.
        name: of the packed bundle.
    """
    spec = model.spec
    classes = {"0": "background", **{str(number): organ for organ, number in _by_id(spec.labels)}}
    tensor = {"spatial_shape": list(spec.roi_size)}
    data_format = metadata["network_data_format"]
    channels = int(getattr(model.network, "in_channels", 1))
    image = {
        **data_format["inputs"]["image"],
        **tensor,
        "modality": spec.modality,
        "num_channels": channels,
        "channel_def": dict(zip("012", ("red", "green", "blue"), strict=True)) if channels == 3 else {"0": "image"},
    }
    pred = {**data_format["outputs"]["pred"], **tensor, "num_channels": len(classes), "channel_def": classes}
    plain = {
        **metadata,
        "name": name,
        "version": spec.version,
        "changelog": {spec.version: f"model {spec.name}, packed with version {__version__} of the code"},
        "task": f"Segmentation of {', '.join(organ for organ, _ in _by_id(spec.labels))} in {spec.modality}",
        "description": description_of(spec),
        "data_type": LEGAL_PHOTOGRAPHS if spec.photographs else metadata["data_type"],
        "data_source": str(spec.training.get("data", "not told")),
        "image_classes": f"{channels} x {spec.modality}, {spec.normalization} of each channel over the image",
        "label_classes": f"one channel: 0 background, 1 to {len(spec.labels)} {noun_of(spec)}s as in channel_def",
        "pred_classes": f"{len(classes)} channels: logits of the background and of {len(spec.labels)} {noun_of(spec)}s",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }
    return {**plain, "eval_metrics": spec.scores} if spec.scores else plain


def training_overlay(model: Model) -> dict[str, Any]:
    """Return the overlay that lets `train.yaml` go on from the packed weights, into a folder of its own."""
    spec = model.spec
    return {
        "checkpoint": f"$@bundle_root + '/models/{WEIGHTS_FILE}'",
        "model_dir": "$@bundle_root + '/trained'",
        "model_name": spec.name,
        "model_version": spec.version,
        "description": spec.description,
        "licence": spec.licence,
        "modality": spec.modality,
        "instances": spec.instances,
        "labels": dict(spec.labels),
        "network_name": spec.network["name"],
        "network_arguments": {"in_channels": 1, **spec.network.get("arguments", {})},
        "spacing": list(spec.spacing) if spec.spacing else None,
        "roi_size": list(spec.roi_size),
    }


def _write_bundle(root: Path, model: Model, name: str, include: Sequence[str]) -> None:
    source = bundle_root()
    ignored = shutil.ignore_patterns("__pycache__", "*.py[cod]", INSIDE)
    shutil.copytree(PACKAGE, root / PACKAGE.name, ignore=ignored)
    shutil.copytree(source / "configs", root / "configs", ignore=ignored)
    shutil.copyfile(source / "LICENSE", root / "LICENSE")
    metadata = json.loads((source / "configs" / "metadata.json").read_text(encoding="utf-8"))
    text = json.dumps(describe_bundle(metadata, model, name), indent=4, ensure_ascii=False)
    (root / "configs" / "metadata.json").write_text(text + "\n", encoding="utf-8")
    overlay = yaml.safe_dump(training_overlay(model), sort_keys=False, allow_unicode=True)
    (root / "configs" / OVERLAY).write_text(f"# Training goes on from this model. Use it after train.yaml.\n{overlay}")
    (root / "models").mkdir()
    for file in (WEIGHTS_FILE, SPEC_FILE):
        shutil.copyfile(model.folder / file, root / "models" / file)
    for extra in include:
        _export(model, extra, root / "models" / EXTRAS[extra])
    (root / "docs").mkdir()
    licence = (source / "docs" / "data_license.txt").read_text(encoding="utf-8")
    (root / "docs" / "data_license.txt").write_text(data_licence(model.spec, licence), encoding="utf-8")
    text = readme(model.spec, name, [EXTRAS[extra] for extra in include])
    (root / "docs" / "README.md").write_text(text, encoding="utf-8")


def _export(model: Model, extra: str, path: Path) -> None:
    if extra == "onnx":
        from swin_umamba.onnx_export import export_onnx  # needs packages that nothing else does

        export_onnx(model.spec, model.network, path)
        return
    convert_to_torchscript(model.network, filename_or_obj=path)
    image = torch.randn(
        1, int(getattr(model.network, "in_channels", 1)), 64, 32, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        found, expected = torch.jit.load(path)(image), model.network(image)
    if not torch.allclose(found, expected, rtol=1e-4, atol=1e-4):
        raise InputError(f"TorchScript differs from PyTorch by up to {float((found - expected).abs().max()):.3g}")


def _zip(path: Path, files: Sequence[Path], base: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(base).as_posix(), date_time=EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as target, file.open("rb") as content:
                shutil.copyfileobj(content, target)


def _by_id(labels: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(labels.items(), key=lambda pair: pair[1])
