"""The selective scan of sequences as one PyTorch operator, `swin_umamba::selective_scan`, for all compiled backends."""

from __future__ import annotations

import torch
from torch import Tensor

from .backends import backend_module
from .compiled import inputs_of, new_saved, real_type


@torch.library.custom_op("swin_umamba::selective_scan", mutates_args=())
def _scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    backend: str,
    save: bool,
) -> tuple[Tensor, Tensor]:
    with torch.autocast(u.device.type, enabled=False):
        saved = _new_saved(u, A, B, backend, save)
        arguments = _arguments(u, delta, A, B, C, D, delta_bias, backend)
        y = backend_module(backend).forward(*arguments, delta_softplus, saved)
        return _to_sequences(y, u, u.dtype), saved


@_scan.register_fake
def _(u, delta, A, B, C, D, delta_bias, delta_softplus, backend, save):
    return u.new_empty(u.shape), _new_saved(u, A, B, backend, save)


@torch.library.custom_op("swin_umamba::selective_scan_backward", mutates_args=())
def _scan_backward(
    gy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    saved: Tensor,
    delta_softplus: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    with torch.autocast(u.device.type, enabled=False):
        arguments = _arguments(u, delta, A, B, C, D, delta_bias, backend)
        gy = _to_rows(gy.to(arguments[0].dtype), B.shape[1]).contiguous()
        gu, gsteps, gweights, grates, gends = backend_module(backend).backward(gy, *arguments, delta_softplus, saved)
        gweights = gweights.view(u.shape[0], u.shape[2], B.shape[1], 2, A.shape[1])
        gweights = gweights.permute(3, 0, 2, 4, 1)  # (B, L, G, 2, N) -> (2, B, G, N, L)
        return (
            _to_sequences(gu, u, u.dtype),
            _to_sequences(gsteps, u, delta.dtype),
            grates.transpose(1, 2).reshape(A.shape).to(A.dtype, copy=True),
            gweights[0].to(B.dtype, memory_format=torch.contiguous_format, copy=True),
            gweights[1].to(C.dtype, memory_format=torch.contiguous_format, copy=True),
            gends[:, 1].flatten().to(u.dtype if D is None else D.dtype, copy=True),
            gends[:, 0].flatten().to(u.dtype if delta_bias is None else delta_bias.dtype, copy=True),
        )


@_scan_backward.register_fake
def _(gy, u, delta, A, B, C, D, delta_bias, saved, delta_softplus, backend):
    channels = A.shape[0]
    skip = u.new_empty(channels) if D is None else D.new_empty(channels)
    bias = u.new_empty(channels) if delta_bias is None else delta_bias.new_empty(channels)
    return *(tensor.new_empty(tensor.shape) for tensor in (u, delta, A, B, C)), skip, bias


def _arguments(u, delta, A, B, C, D, delta_bias, backend) -> tuple[Tensor, ...]:
    real, groups = real_type(u), B.shape[1]
    width = u.shape[1] // groups
    packed = torch.cat([B, C.to(B.dtype)], 2).permute(0, 3, 1, 2).flatten(0, 2)  # (B, G, 2N, L) -> (B*L*G, 2N)
    tensors = inputs_of(_to_rows(u, groups), packed, _to_rows(delta, groups), backend)
    nothing = torch.zeros(u.shape[1], dtype=real, device=u.device)
    given = [nothing if end is None else end.to(real) for end in (delta_bias, D)]
    ends = torch.stack([end.view(groups, width) for end in given], 1)
    rates = A.to(real).view(groups, width, -1).transpose(1, 2).contiguous()  # (D, N) -> (G, N, D/G)
    order = torch.arange(u.shape[2], dtype=torch.int32, device=u.device).repeat(groups, 1)
    return *tensors, ends.new_empty((groups, 0, width)), ends, rates, order


def _to_rows(sequences: Tensor, groups: int) -> Tensor:
    """(B, D, L) -> (B*L*G, D/G)."""
    return sequences.transpose(1, 2).reshape(-1, sequences.shape[1] // groups)


def _to_sequences(rows: Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    """(B*L*G, D/G) -> (B, D, L), in memory of its own."""
    batch, channels, length = like.shape
    sequences = rows.view(batch, length, channels).transpose(1, 2)
    return sequences.to(dtype, memory_format=torch.contiguous_format, copy=True)


def _new_saved(u, A, B, backend, save) -> Tensor:
    groups = B.shape[1]
    return new_saved(u, u.shape[0], groups, u.shape[2], A.shape[1], u.shape[1] // groups, backend, save)


def _save_for_backward(ctx, inputs, output):
    *tensors, ctx.delta_softplus, ctx.backend, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[1])


def _gradients(ctx, gy, _):
    if gy is None:
        return (None,) * 10
    tensors = ctx.saved_tensors
    gradients = torch.ops.swin_umamba.selective_scan_backward(gy, *tensors, ctx.delta_softplus, ctx.backend)
    return *(None if tensor is None else g for tensor, g in zip(tensors, gradients, strict=False)), None, None, None


_scan.register_autograd(_gradients, setup_context=_save_for_backward)


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None,
    delta_softplus: bool, backend: str,
) -> Tensor:  # fmt: skip
    """Run `swin_umamba.scan.selective_scan` on a compiled backend."""
    if B.dim() == 3:
        B, C = B.unsqueeze(1), C.unsqueeze(1)  # (B, N, L) -> (B, 1, N, L)
    tensors = (u, delta, A, B, C, D, delta_bias)
    save = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
    return torch.ops.swin_umamba.selective_scan(*tensors, delta_softplus, backend, save)[0]
