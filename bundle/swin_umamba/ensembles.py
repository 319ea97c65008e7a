"""Several models as one, such as the folds of a cross-validation: their probabilities are averaged."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from swin_umamba.errors import InputError
from swin_umamba.models import Model, ModelSpec, load_model

SHARED = (  # of all members
    *("labels", "spacing", "roi_size", "orientation", "normalization", "modality", "instances"),
)
LONGEST_NAME = 64


class Ensemble(nn.Module):
    """Average the probabilities of networks; what is held at once does not grow with their number, but for weights.

    The result is the logarithm of the mean, so that it takes the place of one network's logits: of a single member it
    differs from the logits by one constant for each pixel, which changes no label.

    Args:
        members: networks with the same input and the same classes.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise InputError("an ensemble of 0 networks: legal: 1 or more")
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to the logarithm of the mean probability (B, K, H, W), in float32."""
        total = torch.zeros(0)
        for number, member in enumerate(self.members):
            log_probability = torch.log_softmax(member(x).float(), 1)
            total = torch.logaddexp(total, log_probability) if number else log_probability
        return total - math.log(len(self.members))


@dataclasses.dataclass(frozen=True)
class EnsembleModel(Model):
    """A model that is the mean of others.

    Args:
        members: their descriptions.
        folders: where they are.
    """

    members: tuple[ModelSpec, ...] = ()
    folders: tuple[Path, ...] = ()


def model_folders(models: str | os.PathLike | Sequence[str | os.PathLike]) -> list[Path]:
    """Return the folders that a `--model` names: one, or several in a list or parted by commas."""
    if isinstance(models, os.PathLike) or (isinstance(models, str) and models and Path(models).exists()):
        return [Path(models)]
    names = models.split(",") if isinstance(models, str) else list(models)
    return [Path(str(name).strip()) for name in names if str(name).strip()]


def load_models(
    models: str | os.PathLike | Sequence[str | os.PathLike],
    device: str | torch.device = "cpu",
    scan_backend: str = "auto",
) -> Model:
    """Load one model, or several as their ensemble.

    Args:
        models: folders, see `model_folders`.
        device: where the networks go.
        scan_backend: see `swin_umamba.models.load_model`.

    Returns:
        The model itself if there is one; else an `EnsembleModel` whose network is an `Ensemble`.

    Raises:
        InputError: if a model cannot be loaded, is named twice, or differs from the first in what all must share.
    """
    folders = model_folders(models)
    if not folders:
        raise InputError(f"model {models!r}: legal: a folder, or several parted by commas")
    if len(folders) == 1:
        return load_model(folders[0], device, scan_backend)
    loaded = [load_model(folder, device, scan_backend) for folder in folders]
    _check_alike(loaded)
    network = Ensemble([model.network for model in loaded]).eval()
    members = tuple(model.spec for model in loaded)
    return EnsembleModel(folders[0], _describe(members), network, members=members, folders=tuple(folders))


def about_model(model: Model, keys: tuple[str, str] = ("model", "model_version")) -> dict[str, Any]:
    """Return what a report says of a model: name and version, under `keys`, licence, of an ensemble "members"."""
    about: dict[str, Any] = {keys[0]: model.spec.name, keys[1]: model.spec.version, "licence": model.spec.licence}
    members = getattr(model, "members", ())
    if members:
        about["members"] = [
            {"folder": str(folder), "name": spec.name, "version": spec.version, "sha256": spec.sha256}
            for folder, spec in zip(model.folders, members, strict=True)  # type: ignore[attr-defined]
        ]
    return about


def _check_alike(models: Sequence[Model]) -> None:
    first = models[0]
    places = [model.folder.resolve() for model in models]
    for index, model in enumerate(models[1:], start=1):
        if places[index] in places[:index]:
            raise InputError(f"model {str(model.folder)!r} is named twice; legal: each once")
        ours, theirs = first.spec.as_dict(), model.spec.as_dict()
        for key in SHARED:
            if ours.get(key) != theirs.get(key):
                raise InputError(
                    f"model {str(model.folder)!r} does not fit {str(first.folder)!r}: {key} {theirs.get(key)}, not "
                    f"{ours.get(key)}; legal in one ensemble: the same {', '.join(SHARED)}"
                )
        channels = [getattr(network, "in_channels", None) for network in (first.network, model.network)]
        if channels[0] != channels[1]:
            raise InputError(
                f"model {str(model.folder)!r} takes {channels[1]} channels, {str(first.folder)!r} {channels[0]}"
            )


def _describe(members: tuple[ModelSpec, ...]) -> ModelSpec:
    """Return the description of an ensemble: the first one's, with the names of all."""
    names = list(dict.fromkeys(spec.name for spec in members))
    name = "-".join(names) if len(names) > 1 else f"{names[0][: LONGEST_NAME - 4]}_x{len(members)}"
    listed = ", ".join(f"{spec.name} {spec.version}" for spec in members)
    return dataclasses.replace(
        members[0],
        name=name if len(name) <= LONGEST_NAME else f"ensemble_of_{len(members)}",
        version=max((spec.version for spec in members), key=lambda version: [int(part) for part in version.split(".")]),
        description=f"Mean of the probabilities of {listed}.",
        licence="; ".join(dict.fromkeys(spec.licence for spec in members)),
        training={"members": [{"name": s.name, "version": s.version, "training": s.training} for s in members]},
        mirror_axes=tuple(axis for axis in members[0].mirror_axes if all(axis in s.mirror_axes for s in members)),
        scores={},
        sha256="",
    )
