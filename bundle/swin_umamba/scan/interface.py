"""The two public operations, checked and sent to a backend."""

from __future__ import annotations

import torch
from torch import Tensor

from swin_umamba.errors import InputError

from . import mamba, sequence_operator, ss2d_operator
from .backends import resolve_backend
from .reference import selective_scan_reference, ss2d_scan_reference


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Run the selective scan (Gu and Dao, "Mamba", section 3.2) with the meaning of `mamba_ssm`'s selective_scan_fn.

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t and y_t = C_t h_t + D u_t, in float32 (float64 for float64 input).

    Args:
        u: input, (batch, D, L).
        delta: steps before bias and softplus, (batch, D, L).
        A: rates, normally negative, (D, N).
        B: input weights, (batch, N, L) or (batch, G, N, L); channel d belongs to group d // (D/G).
        C: output weights, shape of `B`.
        D: skip weights, (D,).
        delta_bias: added to `delta`, (D,).
        delta_softplus: apply softplus to the steps.
        backend: see `backend_names`.

    Returns:
        y, (batch, D, L), in the dtype of `u`.

    Raises:
        InputError: if shapes do not fit or the backend cannot run.
    """
    _check_sequences(u, delta, A, B, C)
    _check_shape("D", D, (u.shape[1],))
    _check_shape("delta_bias", delta_bias, (u.shape[1],))
    name = _resolve(backend, u.device.type, u.dtype, A.shape[1])
    arguments = (u, delta, A, B, C, D, delta_bias, delta_softplus)
    if name == "reference":
        return selective_scan_reference(*arguments)
    if name == "mamba_ssm":
        return mamba.selective_scan(*arguments)
    return sequence_operator.selective_scan(*arguments, name)


def ss2d_scan(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    backend: str = "auto",
) -> Tensor:
    """Scan a map in four directions and sum them (SS2D; Liu et al., "VMamba", section 4.2).

    Direction 0 reads rows, 1 columns, 2 and 3 the same backwards. Each projects every pixel to dt (rank R), B and C
    (N each), steps are softplus(dt_projs_weight dt + dt_projs_bias), rates -exp(A_logs). Under autocast an `x` in half
    precision is projected in half precision; the recurrence stays float32.

    Args:
        x: map, channels last, (batch, H, W, D).
        x_proj_weight: (4, R+2N, D).
        dt_projs_weight: (4, D, R).
        dt_projs_bias: (4, D).
        A_logs: (4*D, N).
        Ds: skip weights, (4*D,).
        backend: see `backend_names`.

    Returns:
        Sum of the four outputs, each put back in its place, (batch, H, W, D), in the dtype of `x`.

    Raises:
        InputError: if shapes do not fit or the backend cannot run.
    """
    _check_map(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    if x.dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(x.device.type):
        x_proj_weight = x_proj_weight.to(x.dtype)
    name = _resolve(backend, x.device.type, x.dtype, A_logs.shape[1])
    arguments = (x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    if name == "reference":
        return ss2d_scan_reference(*arguments)
    if name == "mamba_ssm":
        return mamba.ss2d_scan(*arguments)
    return ss2d_operator.ss2d_scan(*arguments, name)


@torch.compiler.assume_constant_result
def _resolve(backend: str, device_type: str, dtype: torch.dtype, states: int) -> str:
    return resolve_backend(backend, device_type, dtype, states)


def _check_shape(name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    if tensor is not None and tuple(tensor.shape) != shape:
        raise InputError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")


def _check_sequences(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> None:
    if u.dim() != 3 or 0 in u.shape:
        raise InputError(f"u has shape {tuple(u.shape)}, expected (batch, D, L), none of them 0")
    if A.dim() != 2 or A.shape[1] < 1:
        raise InputError(f"A has shape {tuple(A.shape)}, expected (D, N) with N >= 1")
    batch, channels, length = u.shape
    states = A.shape[1]
    groups = B.shape[1] if B.dim() == 4 else 1
    if groups < 1 or channels % groups:
        raise InputError(f"B has {groups} groups, which do not divide the {channels} channels of u")
    weights = (batch, groups, states, length) if B.dim() == 4 else (batch, states, length)
    _check_shape("delta", delta, (batch, channels, length))
    _check_shape("A", A, (channels, states))
    _check_shape("B", B, weights)
    _check_shape("C", C, weights)


def _check_map(x: Tensor, project: Tensor, dt_weight: Tensor, dt_bias: Tensor, A_logs: Tensor, Ds: Tensor) -> None:
    if x.dim() != 4 or 0 in x.shape:
        raise InputError(f"x has shape {tuple(x.shape)}, expected (batch, H, W, D), none of them 0")
    if A_logs.dim() != 2 or A_logs.shape[1] < 1 or dt_weight.dim() != 3:
        shapes = f"A_logs {tuple(A_logs.shape)} and dt_projs_weight {tuple(dt_weight.shape)}"
        raise InputError(f"{shapes}: expected (4*D, N) and (4, D, R)")
    channels, states, rank = x.shape[3], A_logs.shape[1], dt_weight.shape[2]
    _check_shape("A_logs", A_logs, (4 * channels, states))
    _check_shape("dt_projs_weight", dt_weight, (4, channels, rank))
    _check_shape("x_proj_weight", project, (4, rank + 2 * states, channels))
    _check_shape("dt_projs_bias", dt_bias, (4, channels))
    _check_shape("Ds", Ds, (4 * channels,))
