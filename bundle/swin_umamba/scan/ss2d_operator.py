"""SS2D as one PyTorch operator, `swin_umamba::ss2d_scan`, for all compiled backends."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import cuda_backend
from .backends import backend_module
from .compiled import inputs_of, new_saved, real_type

_Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def _run(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    backend: str,
    save: bool,
) -> tuple[Tensor, Tensor]:
    with torch.autocast(x.device.type, enabled=False):
        saved = new_saved(x, x.shape[0], 4, x.shape[1] * x.shape[2], A_logs.shape[1], x.shape[3], backend, save)
        if backend == "cuda":  # projects and merges by itself
            weights = (x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
            return cuda_backend.ss2d_forward(x, *weights, _traversals(*x.shape[1:3], x.device), saved), saved
        arguments = _ss2d_arguments(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds, backend)
        if backend == "cpu":  # the result is rounded to the type of x
            coarse = x.dtype in (torch.float16, torch.bfloat16) and not save
            y = backend_module(backend).forward(*arguments, True, saved, coarse)
        else:
            y = backend_module(backend).forward(*arguments, True, saved)
        return y.view(x.shape).to(x.dtype), saved


_ss2d = torch.library.custom_op("swin_umamba::ss2d_scan", _run, mutates_args=())


@_ss2d.register_fake
def _(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds, backend, save):
    saved = new_saved(x, x.shape[0], 4, x.shape[1] * x.shape[2], A_logs.shape[1], x.shape[3], backend, save)
    return x.new_empty(x.shape), saved


def _run_backward(
    gy: Tensor,
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    saved: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    inputs = (x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    with torch.autocast(x.device.type, enabled=False):
        if backend == "cuda":
            gradients = cuda_backend.ss2d_backward(gy, *inputs, _traversals(*x.shape[1:3], x.device), saved)
            return _like(gradients, inputs)
        arguments = _ss2d_arguments(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds, backend)
        u, packed, _, lift, _, rates, _ = arguments
        gy = gy.reshape(u.shape).to(u.dtype).contiguous()
        gu, gsteps, gweights, grates, gends = backend_module(backend).backward(gy, *arguments, True, saved)
        gsteps = gsteps.view(-1, 4, x.shape[3]).transpose(0, 1)  # (B*L*4, D) -> (4, B*L, D)
        rank = lift.shape[1]
        low = packed.view(-1, 4, packed.shape[1])[:, :, :rank].transpose(0, 1)  # (4, B*L, R)
        glow = torch.bmm(gsteps, lift.transpose(1, 2).to(gsteps.dtype)).transpose(0, 1)  # (B*L, 4, R)
        gpacked = torch.cat([glow, gweights.view(*glow.shape[:2], -1).to(glow.dtype)], 2).flatten(1).to(packed.dtype)
        gx = gu.to(packed.dtype) + gpacked @ x_proj_weight.flatten(0, 1).to(packed.dtype)
        gradients = (
            gx.view(x.shape),
            (gpacked.t() @ u.to(packed.dtype)).view(x_proj_weight.shape),
            torch.bmm(gsteps.transpose(1, 2), low.to(gsteps.dtype)),
            gends[:, 0],
            (grates * rates).transpose(1, 2).reshape(A_logs.shape),
            gends[:, 1].reshape(-1),
        )
        return _like(gradients, inputs)


def _like(gradients: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> _Six:
    """Give every gradient the type of its input, in memory of its own."""
    pairs = zip(gradients, inputs, strict=True)
    return cast(_Six, tuple(g.to(i.dtype).contiguous() for g, i in pairs))


_ss2d_backward = torch.library.custom_op("swin_umamba::ss2d_scan_backward", _run_backward, mutates_args=())


@_ss2d_backward.register_fake
def _(gy, x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds, saved, backend):
    inputs = (x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    return tuple(i.new_empty(i.shape) for i in inputs)


def _ss2d_arguments(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds, backend) -> tuple[Tensor, ...]:
    real = real_type(x)
    channels, states = x.shape[3], A_logs.shape[1]
    wide = torch.promote_types(x.dtype, x_proj_weight.dtype)
    u = x.reshape(-1, channels)
    packed = u.to(wide) @ x_proj_weight.flatten(0, 1).to(wide).t()  # (B*L, D) @ (D, 4*(R+2N))
    packed = packed.view(-1, x_proj_weight.shape[1])  # (B*L*4, R+2N)
    u, packed, raw = inputs_of(u, packed, u.new_empty((0, channels)), backend)
    lift = dt_projs_weight.to(real).transpose(1, 2).contiguous()  # (4, D, R) -> (4, R, D)
    ends = torch.stack([dt_projs_bias.to(real), Ds.to(real).view(4, channels)], 1)
    rates = -torch.exp(A_logs.to(real)).view(4, channels, states).transpose(1, 2)  # (4*D, N) -> (4, N, D)
    order = _traversals(x.shape[1], x.shape[2], x.device)
    return u, packed, raw, lift, ends, rates.contiguous(), order


@lru_cache(maxsize=64)
def _traversals(height: int, width: int, device: torch.device) -> Tensor:
    """Place of every step in rows, columns and both backwards, (4, H*W)."""
    rows = torch.arange(height * width, dtype=torch.int32, device=device)
    columns = rows.view(height, width).t().flatten()
    return torch.stack([rows, columns, rows.flip(0), columns.flip(0)])


def _save_for_backward(ctx, inputs, output):
    *tensors, backend, _ = inputs
    ctx.backend = backend
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[1])


def _ss2d_gradients(ctx, gy, _):
    if gy is None:
        return (None,) * 8
    return *torch.ops.swin_umamba.ss2d_scan_backward(gy, *ctx.saved_tensors, ctx.backend), None, None


_ss2d.register_autograd(_ss2d_gradients, setup_context=_save_for_backward)


class _Eager(torch.autograd.Function):
    """The operator without PyTorch's dispatch of Python operators, which takes longer than some kernels."""

    @staticmethod
    def forward(ctx, *inputs):
        """Run the scan."""
        output = _run(*inputs)
        _save_for_backward(ctx, inputs, output)
        return output[0]

    @staticmethod
    @once_differentiable
    def backward(ctx, gy):
        """Run the scan of the gradients."""
        return *_run_backward(gy, *ctx.saved_tensors, ctx.backend), None, None


def ss2d_scan(
    x: Tensor, x_proj_weight: Tensor, dt_projs_weight: Tensor, dt_projs_bias: Tensor, A_logs: Tensor, Ds: Tensor,
    backend: str,
) -> Tensor:  # fmt: skip
    """Run `swin_umamba.scan.ss2d_scan` on a compiled backend."""
    tensors = (x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    save = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if backend == "cuda" and not torch.compiler.is_compiling():
        return _Eager.apply(*tensors, backend, save)
    return torch.ops.swin_umamba.ss2d_scan(*tensors, backend, save)[0]
