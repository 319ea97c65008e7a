"""A trained model is a folder: `model.pt` (a bare state dict) and `model.yaml` (what the weights are, as plain data).

`model.yaml` is never a MONAI config, which would execute code. `load_model` checks it against `model_schema.json`,
builds one of our registered networks and nothing else, and refuses weights that do not belong to it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import torch
import yaml
from torch import Tensor, nn

from swin_umamba import __version__
from swin_umamba.errors import InputError
from swin_umamba.files import replace_file, save_tensors
from swin_umamba.networks import build_network
from swin_umamba.photographs import MODALITIES
from swin_umamba.weights import load_checkpoint

logger = logging.getLogger(__name__)

WEIGHTS_FILE = "model.pt"
SPEC_FILE = "model.yaml"
SHIPPED = "chaos_mri"  # in the folder models of a checkout
STORED = {"float32": torch.float32, "float16": torch.float16}
SCHEMA = json.loads(Path(__file__).with_name("model_schema.json").read_text(encoding="utf-8"))


@dataclasses.dataclass(kw_only=True)
class ModelSpec:
    """What `model.yaml` says of a trained model.

    Args:
        name: the model's name; letters, digits, `.`, `_`, `-`.
        version: of the weights, three numbers; independent of the code's version.
        network: `{"name": registered network, "arguments": {keyword: value}}`.
        labels: organ name to label id, ids 1…N without gaps; 0 is background.
        spacing: in-plane spacing (x, y) in mm that the network was trained at; None keeps each image's own.
        roi_size: slice (x, y) in pixels that is segmented in one piece: the patch of the training.
        mirror_axes: of a slice, along which training showed mirror images: 0 left-right, 1 front-back. What was never
            seen mirrored is not recognised so.
        orientation: of the volumes whose slices along the last axis the network sees.
        normalization: of the intensities; z-score over the whole volume.
        modality: as in DICOM, of the training images; those of `swin_umamba.photographs.MODALITIES` are photographs.
        instances: label whose connected pieces are single objects, such as cells; None has no such label.
        description: one or two sentences for a person who chooses a model.
        licence: of the weights.
        training: what it was trained on and how; free form, plain data.
        scores: measured on cases that were used for no choice; free form, plain data.
        code_version: of this package when the model was written.
        sha256: of `model.pt`.
    """

    name: str
    network: dict[str, Any]
    labels: dict[str, int]
    version: str = "0.1.0"
    spacing: tuple[float, float] | None = None
    roi_size: tuple[int, int] = (320, 320)
    mirror_axes: tuple[int, ...] = ()
    orientation: str = "RAS"
    normalization: str = "z-score"
    modality: str = "MR"
    instances: str | None = None
    description: str = ""
    licence: str = "unknown"
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    scores: dict[str, Any] = dataclasses.field(default_factory=dict)
    code_version: str = __version__
    sha256: str = ""

    def __post_init__(self) -> None:
        self.spacing = tuple(self.spacing) if self.spacing else None  # type: ignore[assignment]
        self.roi_size = tuple(self.roi_size)  # type: ignore[assignment]
        self.mirror_axes = tuple(self.mirror_axes)
        check_spec(self.as_dict(), "model description")

    def as_dict(self) -> dict[str, Any]:
        """Return the description as plain data, in the order of the file."""
        plain = dataclasses.asdict(self)
        plain["spacing"] = list(self.spacing) if self.spacing else None
        plain["roi_size"] = list(self.roi_size)
        plain["mirror_axes"] = list(self.mirror_axes)
        return plain

    @property
    def out_channels(self) -> int:
        """Channels of the network's output: the organs and the background."""
        return len(self.labels) + 1

    @property
    def in_channels(self) -> int:
        """Channels of the network's input: 1, or 3 for colours."""
        return int(self.network.get("arguments", {}).get("in_channels", 1))

    @property
    def framed(self) -> bool:
        """Whether slices smaller than `roi_size` get a frame up to it, as in training: unless it is known to have none.

        Of an ensemble, whether one of its members had.
        """
        if "members" in self.training:
            members = [dataclasses.replace(self, training=member["training"]) for member in self.training["members"]]
            return any(member.framed for member in members)
        images = self.training.get("images", {})
        if "field_of_view" not in images:
            return True
        spacing = self.spacing or [high for _, high in images["spacing"]]
        smallest = [low for low, _ in images["field_of_view"]]
        return any(round(low / mm) < side for low, mm, side in zip(smallest, spacing, self.roi_size, strict=False))

    @property
    def photographs(self) -> bool:
        """Whether the model's images are photographs, and not volumes of a body."""
        return self.modality in MODALITIES


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained model, ready to run: its folder, its description and its network in evaluation mode."""

    folder: Path
    spec: ModelSpec
    network: nn.Module


def check_spec(plain: Any, where: str) -> None:
    """Check a model description against the schema.

    Args:
        plain: the description as plain data.
        where: what to call it in the message.

    Raises:
        InputError: naming the first key that is wrong and what is legal, or label ids that are not 1…N.
    """
    error = jsonschema.exceptions.best_match(jsonschema.Draft7Validator(SCHEMA).iter_errors(plain))
    if error is not None:
        key = ".".join(str(part) for part in error.absolute_path) or "the file"
        raise InputError(f"{where}: {key}: {error.message}; legal keys are {', '.join(SCHEMA['properties'])}")
    if plain.get("instances") not in (None, *plain["labels"]):
        raise InputError(f"{where}: instances: {plain['instances']!r}; legal: null, {', '.join(plain['labels'])}")
    ids = sorted(plain["labels"].values())
    if ids != list(range(1, len(ids) + 1)):
        raise InputError(f"{where}: labels: ids must be 1 to {len(ids)} without gaps, not {ids}")


def read_spec(folder: str | os.PathLike) -> ModelSpec:
    """Read and check `model.yaml` of a model's folder.

    Raises:
        InputError: if the folder or the file is missing, is not plain YAML data, or does not fit the schema.
    """
    folder = Path(folder)
    path = folder / SPEC_FILE
    if not path.is_file():
        have = sorted(p.parent.name for p in folder.parent.glob(f"*/{SPEC_FILE}")) if folder.parent.is_dir() else []
        raise InputError(
            f"model {str(folder)!r} has no {SPEC_FILE}: train one first, or name a folder that holds {SPEC_FILE} and "
            f"{WEIGHTS_FILE}" + (f"; beside it there are: {', '.join(have)}" if have else "")
        )
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not plain YAML data: {error}") from error
    check_spec(plain, str(path))
    return ModelSpec(**plain)


def mirror_axes(spec: ModelSpec, wanted: bool) -> tuple[int, ...]:
    """Return the axes of a slice whose mirror images are averaged at inference.

    Args:
        spec: of the model.
        wanted: whether there is to be averaging at all.

    Raises:
        InputError: if it is wanted of a model that has learnt from no mirror images.
    """
    if wanted and not spec.mirror_axes:
        raise InputError(f"mirror true: model {spec.name!r} has learnt from no mirror images; legal: false")
    return spec.mirror_axes if wanted else ()


def default_model(bundle_root: str | os.PathLike) -> str:
    """Return the folder of the model that is taken when none is named.

    Args:
        bundle_root: folder of the bundle.

    Returns:
        `<bundle_root>/models` where a training has left a model there, or else the model that comes with the checkout,
        if there is one.
    """
    own, shipped = Path(bundle_root) / "models", Path(bundle_root).resolve().parent / "models" / SHIPPED
    if not (own / SPEC_FILE).is_file() and (shipped / SPEC_FILE).is_file():
        logger.info("no --model, and none was trained here: taking %s", shipped)
        return str(shipped)
    return str(own)


def load_model(folder: str | os.PathLike, device: str | torch.device = "cpu", scan_backend: str = "auto") -> Model:
    """Load a trained model; nothing in its folder is executed.

    Args:
        folder: holds `model.pt` and `model.yaml`.
        device: where the network goes.
        scan_backend: a name of `swin_umamba.scan.available_backends`, or "auto".

    Returns:
        The model with its network in evaluation mode, in float32.

    Raises:
        InputError: if a file is missing, damaged or not what `model.yaml` says, or if the weights do not fit.
    """
    folder = Path(folder)
    spec = read_spec(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise InputError(f"model {str(folder)!r} has no {WEIGHTS_FILE}, only {SPEC_FILE}")
    if spec.sha256 and spec.sha256 != file_sha256(weights):
        raise InputError(f"{weights} is not the file that {SPEC_FILE} describes: its sha256 is not {spec.sha256}")
    network = build_described_network(spec, scan_backend=scan_backend)
    load_checkpoint(network, weights)
    return Model(folder=folder, spec=spec, network=network.float().eval().to(device))


def build_described_network(spec: ModelSpec, **overrides: Any) -> nn.Module:
    """Build the registered network that a description names, checking that its classes are the labels.

    Raises:
        InputError: for an unknown network or argument, or when `out_channels` is not the labels and background.
    """
    arguments = {"out_channels": spec.out_channels, **spec.network.get("arguments", {}), **overrides}
    if arguments["out_channels"] != spec.out_channels:
        raise InputError(
            f"model {spec.name!r}: out_channels is {arguments['out_channels']}, but {len(spec.labels)} labels and the "
            f"background make {spec.out_channels}"
        )
    return build_network(spec.network["name"], **arguments)


def save_model(folder: str | os.PathLike, network: nn.Module, spec: ModelSpec, dtype: str = "float32") -> ModelSpec:
    """Write a network as a model; see `write_model`."""
    return write_model(folder, weights_of(network), spec, dtype)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's state dict on the CPU."""
    return {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}


def write_model(
    folder: str | os.PathLike, weights: Mapping[str, Tensor], spec: ModelSpec, dtype: str = "float32"
) -> ModelSpec:
    """Write a model's two files, each atomically, weights first.

    Args:
        folder: made when it is missing.
        weights: state dict on the CPU.
        spec: the description; its `sha256` and `code_version` are set here.
        dtype: of the floating-point weights in the file, "float32" or "float16"; `load_model` makes them float32.

    Returns:
        The description as written.

    Raises:
        InputError: for another dtype.
    """
    if dtype not in STORED:
        raise InputError(f"dtype {dtype!r} of the stored weights: legal: {', '.join(STORED)}")
    stored = {key: value.to(STORED[dtype]) if value.is_floating_point() else value for key, value in weights.items()}
    with replace_file(Path(folder) / WEIGHTS_FILE) as temporary:
        save_tensors(temporary, stored)
        sha256 = file_sha256(temporary)
    spec = dataclasses.replace(spec, sha256=sha256, code_version=__version__)
    write_spec(folder, spec)
    return spec


def write_spec(folder: str | os.PathLike, spec: ModelSpec) -> None:
    """Write `model.yaml` atomically."""
    with replace_file(Path(folder) / SPEC_FILE) as temporary:
        text = yaml.safe_dump(spec.as_dict(), sort_keys=False, allow_unicode=True, width=110)
        temporary.write_text(text, encoding="utf-8")


def file_sha256(path: str | os.PathLike) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
