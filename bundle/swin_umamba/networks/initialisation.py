"""How the networks start before any weights are loaded (the rules of the official code)."""

from __future__ import annotations

import math

import torch
from torch import nn

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4
LINEAR_STD = 0.02
LEAKY_SLOPE = 0.01


@torch.no_grad()
def initialise_scan(
    x_proj_weight: torch.Tensor,
    dt_projs_weight: torch.Tensor,
    dt_projs_bias: torch.Tensor,
    A_logs: torch.Tensor,
    Ds: torch.Tensor,
) -> None:
    """Fill the parameters of one scan in place, after Mamba (arXiv 2312.00752, section 3.6 and its code).

    Args:
        x_proj_weight: (..., R + 2N, D); as a linear layer is by default, uniform within +-D**-0.5.
        dt_projs_weight: (..., D, R); uniform within +-R**-0.5, which keeps the variance of delta.
        dt_projs_bias: (..., D); softplus of it is log-uniform in [1e-3, 1e-1].
        A_logs: (channels, N); log(1) .. log(N) in every row.
        Ds: (channels); ones.
    """
    bound = x_proj_weight.shape[-1] ** -0.5
    x_proj_weight.uniform_(-bound, bound)
    bound = dt_projs_weight.shape[-1] ** -0.5
    dt_projs_weight.uniform_(-bound, bound)
    dt = torch.empty_like(dt_projs_bias).uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp_().clamp_(min=DT_FLOOR)
    dt_projs_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
    A_logs.copy_(torch.arange(1, A_logs.shape[-1] + 1, dtype=A_logs.dtype).log().expand_as(A_logs))
    Ds.fill_(1.0)


def initialise_linears(module: nn.Module) -> None:
    """Give every linear layer inside `module` truncated normal weights (std 0.02) and zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=LINEAR_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_convolutions(module: nn.Module) -> None:
    """Give every 2D convolution inside `module` He weights (fan in, leaky ReLU of slope 0.01) and zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=LEAKY_SLOPE)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
