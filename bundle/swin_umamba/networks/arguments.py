"""Checks of what the networks are built from and called with; each error names the value and what is legal."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from swin_umamba.errors import InputError
from swin_umamba.scan import backend_names

STAGES = 4


def check_integer(name: str, value: int, minimum: int, multiple: int = 1) -> int:
    """Return `value` if it is an integer of at least `minimum` and a multiple of `multiple`.

    Raises:
        InputError: if it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum or value % multiple:
        kind = "an integer" if multiple == 1 else f"an integer, a multiple of {multiple},"
        raise InputError(f"{name} must be {kind} of at least {minimum}, not {value!r}")
    return value


def check_depths(depths: Sequence[int]) -> tuple[int, ...]:
    """Return `depths` as a tuple if it holds one positive integer for each of the four stages.

    Raises:
        InputError: if it does not.
    """
    listed = isinstance(depths, Sequence) and not isinstance(depths, str) and len(depths) == STAGES  # type: ignore[unreachable]
    if not listed or any(isinstance(d, bool) or not isinstance(d, int) or d < 1 for d in depths):
        raise InputError(f"depths must be {STAGES} integers of at least 1, like (2, 2, 9, 2), not {depths!r}")
    return tuple(depths)


def check_rate(name: str, value: float) -> float:
    """Return `value` as a float if it lies in [0, 1).

    Raises:
        InputError: if it does not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise InputError(f"{name} must be a number from 0 up to, not including, 1, not {value!r}")
    return float(value)


def check_backend(name: str) -> str:
    """Return `name` if it is "auto" or the name of a scan backend; whether that one can run shows when it is used.

    Raises:
        InputError: if it is neither.
    """
    legal = backend_names()
    if name not in legal:
        raise InputError(f"scan_backend must be one of {', '.join(legal)}, not {name!r}")
    return name


def check_image(x: torch.Tensor, in_channels: int) -> None:
    """Accept a batch of images (B, in_channels, H, W) of at least one pixel.

    Raises:
        InputError: if it has another number of dimensions or channels, or no pixels.
    """
    if x.dim() != 4 or x.shape[1] != in_channels or x.shape[2] < 1 or x.shape[3] < 1:
        raise InputError(f"the network takes images of shape (batch, {in_channels}, H, W), not {tuple(x.shape)}")
