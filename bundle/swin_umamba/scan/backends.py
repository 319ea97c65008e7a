"""Which implementations of the scan can run here, and which one to take.

A backend is a module with `status()`, which says whether it can run in this process at all, and `refusal(device_type,
dtype, states)`, which says why it cannot take such a tensor (None: it can). Both answer with what would make it run.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType

import torch

from swin_umamba.errors import InputError

logger = logging.getLogger(__name__)
BACKEND_VARIABLE = "SWIN_UMAMBA_SCAN_BACKEND"
_MODULES = {
    "cpu": "cpu",
    "cuda": "cuda_backend",
    "triton": "triton_backend",
    "mamba_ssm": "mamba",
    "reference": "plain",
}
_ORDER = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "triton", "mamba_ssm", "reference")}  # fastest first


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend can run in this process, and the reason in words."""

    available: bool
    reason: str


def backend_names() -> tuple[str, ...]:
    """Return the legal values of a `backend` argument."""
    return ("auto", *_MODULES)


def backend_module(name: str) -> ModuleType:
    """Return the module of a backend, imported only now so that optional packages load when first needed."""
    return import_module(f"{__package__}.{_MODULES[name]}")


def available_backends() -> dict[str, BackendStatus]:
    """Tell for every backend whether it can run here and, if not, what is missing and what to install."""
    return {name: backend_module(name).status() for name in _MODULES}


def resolve_backend(name: str, device: torch.device | str, dtype: torch.dtype, states: int = 16) -> str:
    """Choose the backend for a tensor.

    Args:
        name: one of `backend_names()`; "auto" takes the fastest that can run. The environment variable
            SWIN_UMAMBA_SCAN_BACKEND overrides it when set.
        device: where the tensors are.
        dtype: type of the scanned tensor.
        states: N.

    Returns:
        The name of a backend that can run on such tensors, never "auto".

    Raises:
        InputError: if the name is unknown or the backend cannot run; says why and what would make it run.
    """
    kind = device if isinstance(device, str) else device.type
    forced = os.environ.get(BACKEND_VARIABLE, "")
    source = f"{BACKEND_VARIABLE}={forced}" if forced else f"backend={name!r}"
    name = forced or name
    if name not in backend_names():
        raise InputError(f"{source}: unknown scan backend; legal names are {', '.join(backend_names())}")
    if name == "auto":
        order = _ORDER.get(kind, ("reference",))
        choice = next(name for name in order if why_not(name, kind, dtype, states) is None)
        if choice != order[0]:
            _tell(order[0], choice, str(why_not(order[0], kind, dtype, states)))
        return choice
    reason = why_not(name, kind, dtype, states)
    if reason is not None:
        able = [other for other in _MODULES if why_not(other, kind, dtype, states) is None]
        raise InputError(f"{source} cannot scan {dtype} on {kind}: {reason}; able here: auto, {', '.join(able)}")
    return name


@cache
def _tell(fastest: str, choice: str, reason: str) -> None:
    """Log once that the fastest backend of a device is not the one that runs."""
    logger.warning("the scan runs on the %s backend, not on %s: %s", choice, fastest, reason)


def why_not(name: str, device_type: str, dtype: torch.dtype, states: int = 16) -> str | None:
    """Return why a backend cannot scan such tensors in this process, or None if it can."""
    module = backend_module(name)
    status = module.status()
    return module.refusal(device_type, dtype, states) if status.available else status.reason
