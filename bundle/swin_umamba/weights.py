"""Weights from files: published checkpoints and our own, read without ever executing code.

`load_pretrained` starts an encoder from VMamba, `load_checkpoint` fills a whole network, and both say in a report which
tensors went where. `python -m swin_umamba.weights fetch NAME` downloads what models/checkpoints.yaml lists.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from swin_umamba.errors import InputError
from swin_umamba.networks.description import (
    SWIN_UMAMBA,
    SWIN_UMAMBA_D,
    UNKNOWN,
    VMAMBA,
    VMAMBA_OTHER,
    Description,
    describe_state_dict,
)

logger = logging.getLogger(__name__)

WRAPPERS = ("network_weights", "model", "state_dict")  # nnU-Net; VMamba and MONAI; Lightning and others
PREFIXES = ("module.", "_orig_mod.")  # left by DistributedDataParallel and torch.compile
ENCODER = "vssm_encoder."
NEVER_LOADED = ("norm.weight", "norm.bias", "head.weight", "head.bias")  # VMamba's classifier
# Swin-UMamba cuts its own stem into patches, so VMamba's patch embedding does not fit, but for this bias, which the
# official loader takes as well
EMBEDDING_TAKEN = {SWIN_UMAMBA: ("patch_embed.norm.bias",)}

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class WeightsReport:
    """Which tensors of a file went into a network; names with shapes.

    Attributes:
        path: the file.
        network: what kind of network the weights went into.
        taken: tensors of the network that come from the file, by the network's names.
        skipped: tensors of the file that were not used, by the file's names.
        left: tensors of the network that stay at their initialisation.
    """

    path: str
    network: str
    taken: Shapes = field(default_factory=dict)
    skipped: Shapes = field(default_factory=dict)
    left: Shapes = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.path} -> {self.network}: {_count(self.taken)} taken"]
        if self.skipped:
            lines.append(f"  skipped, in the file only: {_count(self.skipped)}: {_names(self.skipped)}")
        if self.left:
            lines.append(f"  left at initialisation: {_count(self.left)}: {_names(self.left)}")
        return "\n".join(lines)


def read_state_dict(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint file into CPU memory; code in the file is never executed.

    Args:
        path: a file of `torch.save`: a bare state dict, or one inside `network_weights`, `model` or `state_dict`.

    Returns:
        Names and tensors, without the prefixes `module.` and `_orig_mod.`.

    Raises:
        InputError: if the file is missing or damaged, needs code to be executed, or holds no state dict.
    """
    if not Path(path).is_file():
        raise InputError(
            f"no weights file {str(path)!r}; python -m swin_umamba.weights fetch NAME downloads published ones"
        )
    try:
        with torch.serialization.safe_globals(_plain_data()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"weights file {str(path)!r} {_reading_problem(error)}") from error
    state = _unwrap(content)
    if not state:
        legal = ", ".join(WRAPPERS)
        raise InputError(f"{str(path)!r} holds no state dict: tensors by name, bare or inside one of {legal}")
    return state


def load_pretrained(network: nn.Module, path: str | os.PathLike) -> WeightsReport:
    """Start the encoder of `network` from a VMamba checkpoint of January 2024; its classifier is left out.

    Args:
        network: a `SwinUMamba` or `SwinUMambaD` with the encoder of the file: VMamba-Tiny has embed_dim 96 and depths
            (2, 2, 9, 2). Changed in place, and only when everything fits.
        path: for example models/pretrained/vmamba_tiny_e292.pth.

    Returns:
        What was taken, skipped and left.

    Raises:
        InputError: if the file is of another kind or does not fit.

    Source: the published training of Swin-UMamba (arXiv 2402.03302, section 3.2).
    """
    state, own = read_state_dict(path), network.state_dict()
    source, target = describe_state_dict(state), describe_state_dict(own)
    if target.network not in (SWIN_UMAMBA, SWIN_UMAMBA_D):
        raise InputError(f"pretrained weights are for SwinUMamba and SwinUMambaD, not {type(network).__name__}")
    _check_pretrained(path, source, target)
    renamed = {key: ENCODER + re.sub(r"^layers\.(\d+)\.downsample\.", r"downsamples.\1.", key) for key in state}
    fits = {renamed[key]: value for key, value in state.items() if _is_taken(key, source, target)}
    _check_shapes(path, fits, own)
    network.load_state_dict(fits, strict=False)
    report = WeightsReport(
        path=str(path),
        network=target.network,
        taken=_shapes(fits),
        skipped=_shapes({key: value for key, value in state.items() if renamed[key] not in fits}),
        left=_shapes({key: value for key, value in own.items() if key not in fits}),
    )
    logger.info("%s", report)
    return report


def load_checkpoint(network: nn.Module, path: str | os.PathLike) -> WeightsReport:
    """Fill all of `network` from a file of the same network: ours, or the official code's (an nnU-Net checkpoint).

    Args:
        network: changed in place, and only when everything fits.
        path: the file.

    Returns:
        What was taken; nothing is skipped or left.

    Raises:
        InputError: if the file is of another network, or of one with other classes, channels or sizes.
    """
    state, own = read_state_dict(path), network.state_dict()
    source, target = describe_state_dict(state), describe_state_dict(own)
    if source.network in (VMAMBA, VMAMBA_OTHER):
        raise InputError(f"{str(path)!r} holds {source.network}, an encoder only; load_pretrained is for those")
    if source.network != target.network:
        kind = type(network).__name__ if target.network == UNKNOWN else target.network
        raise InputError(f"{str(path)!r} holds {source.network}; it does not fit {kind}")
    _check_sizes(path, source, target, ("in_channels", "out_channels", "embed_dim", "depths"))
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    if missing or unexpected:
        raise InputError(f"{str(path)!r} does not fit: it lacks {_some(missing)} and has besides {_some(unexpected)}")
    _check_shapes(path, state, own)
    network.load_state_dict(state)
    report = WeightsReport(path=str(path), network=target.network, taken=_shapes(state))
    logger.info("%s", report)
    return report


def _plain_data() -> list:
    """List what published checkpoints hold besides tensors, all of it data: NumPy numbers and arrays, a config."""
    scalar, array = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
    functions = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    functions += [(array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    kinds = {type(np.dtype(code)) for code in [*"?bBhHiIlLqQefdgFD", "U1", "S1"]}
    return [*functions, np.dtype, np.ndarray, *kinds, (OrderedDict, "yacs.config.CfgNode")]


def _reading_problem(error: Exception) -> str:
    text = " ".join(str(error).split())
    name = re.search(r"GLOBAL ([\w.]+)", text) or re.search(r"Unsupported class ([\w.]+)", text)
    if name:
        return f"needs code to be executed ({name[1]}) and is refused; legal: tensors, numbers, text, lists and dicts"
    if "TorchScript" in text:
        return "is a TorchScript program; legal: a state dict written by torch.save"
    reason = text.partition("WeightsUnpickler error: ")[2].partition(" Check the documentation")[0] or text
    return f"cannot be read, it may be cut off or of another format: {reason[:120]}"


def _unwrap(content: object) -> dict[str, torch.Tensor]:
    """Return the tensors by name inside `content`, or nothing."""
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return {}
    if not all(isinstance(value, torch.Tensor) for value in content.values()):
        return {}
    state = dict(content)
    while any(all(key.startswith(prefix) for key in state) for prefix in PREFIXES) and state:
        state = {key.split(".", 1)[1]: value for key, value in state.items()}
    return state


def _check_pretrained(path: str | os.PathLike, source: Description, target: Description) -> None:
    if source.network == VMAMBA_OTHER:
        link = "the published Swin-UMamba starts from vssmtiny_dp01_ckpt_epoch_292.pth"
        raise InputError(f"{str(path)!r} holds {source.network}, legal is {VMAMBA}; {link}")
    if source.network in (SWIN_UMAMBA, SWIN_UMAMBA_D):
        raise InputError(f"{str(path)!r} holds a whole {source.network}, not an encoder; load_checkpoint is for those")
    if source.network != VMAMBA:
        raise InputError(f"{str(path)!r} holds {source.network}, legal is {VMAMBA}")
    _check_sizes(path, source, target, ("embed_dim", "depths"))


def _is_taken(key: str, source: Description, target: Description) -> bool:
    if key in NEVER_LOADED:
        return False
    if not key.startswith("patch_embed."):
        return True
    if target.network in EMBEDDING_TAKEN:
        return key in EMBEDDING_TAKEN[target.network]
    return source.in_channels == target.in_channels


def _check_sizes(path: str | os.PathLike, source: Description, target: Description, names: tuple[str, ...]) -> None:
    for name in names:
        theirs, ours = getattr(source, name), getattr(target, name)
        if theirs != ours:
            raise InputError(f"{str(path)!r} was made with {name} {theirs}, the network has {name} {ours}")


def _check_shapes(path: str | os.PathLike, state: Mapping, own: Mapping) -> None:
    """Raise an InputError that names the first tensor that `own` lacks or has in another shape."""
    for key, value in state.items():
        if key not in own:
            raise InputError(f"{str(path)!r} has {key}, which the network does not have")
        if value.shape != own[key].shape:
            raise InputError(f"{str(path)!r} has {key} {tuple(value.shape)}, the network {tuple(own[key].shape)}")


def _shapes(state: Mapping[str, torch.Tensor]) -> Shapes:
    return {key: tuple(value.shape) for key, value in state.items()}


def _count(shapes: Shapes) -> str:
    return f"{len(shapes)} tensors ({sum(map(math.prod, shapes.values())):,} parameters)"


def _names(shapes: Shapes) -> str:
    """Name the encoder's tensors one by one, with shapes, and other parts with how many they are."""
    parts: dict[str, int] = {}
    for key, shape in shapes.items():
        part = key.split(".")[0]
        whole = f"{key} {tuple(shape)}" if part in ("vssm_encoder", "patch_embed", "norm", "head") else part
        parts[whole] = parts.get(whole, 0) + 1
    return ", ".join(f"{part} ({count})" if "(" not in part else part for part, count in parts.items())


def _some(keys: list[str]) -> str:
    return "nothing" if not keys else f"{len(keys)} tensors ({', '.join(keys[:3])}{', ...' if keys[3:] else ''})"


if __name__ == "__main__":
    from swin_umamba.fetching import main

    main()
