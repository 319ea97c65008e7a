"""The `mamba_ssm` backend: the CUDA kernels of the mamba-ssm package, where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .backends import BackendStatus
from .reference import merge, traverse

INSTALL = "pip install mamba-ssm (compiles CUDA code: needs nvcc and a matching PyTorch)"


@cache
def _scan_function() -> Callable[..., Tensor] | str:
    """Return mamba-ssm's selective_scan_fn, or why there is none.

    Only the module that holds it is imported: the package's own __init__ pulls in language models and their compilers.
    """
    root = find_spec("mamba_ssm")
    if root is None:
        return f"mamba_ssm is not installed; {INSTALL}"
    if not torch.cuda.is_available():
        return "mamba_ssm needs a CUDA GPU, PyTorch sees none"
    stand_in = "mamba_ssm" not in sys.modules
    if stand_in:
        sys.modules["mamba_ssm"] = _empty_package(root)
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except (ImportError, RuntimeError) as error:
        return f"mamba_ssm does not load ({error}); {INSTALL}"
    finally:
        if stand_in:
            del sys.modules["mamba_ssm"]
    return selective_scan_fn


def _empty_package(spec: ModuleSpec) -> ModuleType:
    package = module_from_spec(spec)  # made, never executed
    package.__path__ = list(spec.submodule_search_locations or [])
    return package


@cache
def status() -> BackendStatus:
    """It needs the package, which loads, and a CUDA GPU."""
    function = _scan_function()
    return (
        BackendStatus(False, function) if isinstance(function, str) else BackendStatus(True, "mamba-ssm's CUDA kernels")
    )


def refusal(device_type: str, dtype: torch.dtype, states: int = 16) -> str | None:
    """Return why such a tensor cannot be scanned."""
    if device_type != "cuda":
        return "mamba_ssm takes tensors on a CUDA GPU"
    half_or_single = (torch.float32, torch.float16, torch.bfloat16)
    return None if dtype in half_or_single else "mamba_ssm scans float32, float16 and bfloat16"


@torch.compiler.disable
def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Tensor:  # fmt: skip
    """Run `swin_umamba.scan.selective_scan`."""
    u32, delta32, B32, C32 = (tensor.float().contiguous() for tensor in (u, delta, B, C))
    D32, bias32 = (None if tensor is None else tensor.float() for tensor in (D, delta_bias))
    scan: Any = _scan_function()
    y = scan(u32, delta32, A.float(), B32, C32, D32, delta_bias=bias32, delta_softplus=delta_softplus)
    return y.to(u.dtype)


@torch.compiler.disable
def ss2d_scan(
    x: Tensor, x_proj_weight: Tensor, dt_projs_weight: Tensor, dt_projs_bias: Tensor, A_logs: Tensor, Ds: Tensor
) -> Tensor:
    """Run `swin_umamba.scan.ss2d_scan` on four copies of the map, one per traversal."""
    height, width, channels = x.shape[1:]
    rank, states = dt_projs_weight.shape[2], A_logs.shape[1]
    maps = x.unsqueeze(1).expand(-1, 4, -1, -1, -1)
    sequences = traverse(maps)  # (B, 4, L, D)
    wide = torch.promote_types(x.dtype, x_proj_weight.dtype)
    packed = torch.matmul(sequences.to(wide), x_proj_weight.to(wide).transpose(1, 2))  # (B, 4, L, R+2N)
    low, B, C = packed.split([rank, states, states], 3)
    delta = torch.matmul(low, dt_projs_weight.to(low.dtype).transpose(1, 2))  # (B, 4, L, D)
    y = selective_scan(
        sequences.transpose(2, 3).flatten(1, 2),  # (B, 4, L, D) -> (B, 4*D, L)
        delta.transpose(2, 3).flatten(1, 2),
        -torch.exp(A_logs.float()),
        B.transpose(2, 3),
        C.transpose(2, 3),
        Ds,
        dt_projs_bias.flatten(),
        True,
    )
    return merge(y.unflatten(1, [4, channels]).transpose(2, 3), height, width)
