"""Which device to run on, and in which precision."""

from __future__ import annotations

import torch

from swin_umamba.errors import InputError


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """Return the device that was asked for, or the best there is.

    Args:
        name: "cpu", "cuda", "cuda:N"; None or "auto" takes the first GPU, or the CPU where there is none.

    Raises:
        InputError: if the name is unknown, or that device is not in this machine.
    """
    legal = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name is None or name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r} is unknown; legal here: {', '.join(legal)}") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {str(name)!r} is not supported; legal here: {', '.join(legal)}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {str(name)!r} is not in this machine; legal here: {', '.join(legal)}")
    return device


def choose_precision(name: str | None, device: torch.device | str) -> torch.dtype | None:
    """Return the data type of mixed precision, or None for float32 throughout.

    Args:
        name: "bfloat16", "float16", "float32"; None or "auto" takes bfloat16 on a GPU and float32 on a CPU.
        device: that the network runs on.

    Raises:
        InputError: for another name.
    """
    if name is None or name == "auto":
        return torch.bfloat16 if torch.device(device).type == "cuda" else None
    legal = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": None}
    if name not in legal:
        raise InputError(f"precision {name!r} is unknown; legal: auto, {', '.join(legal)}")
    return legal[name]
