"""CUDA kernels that NVRTC, a part of PyTorch's CUDA packages, compiles at the first call: no toolkit, no headers."""

from __future__ import annotations

from .depthwise import conv_silu, plain_conv_silu
from .instance_norm import instance_norm, plain_instance_norm
from .kernels import Kernels, cores_of, load_kernels, pointer, value_name, why_unavailable
from .layer_norm import layer_norm, plain_layer_norm

__all__ = [
    "Kernels",
    "conv_silu",
    "cores_of",
    "instance_norm",
    "layer_norm",
    "load_kernels",
    "plain_conv_silu",
    "plain_instance_norm",
    "plain_layer_norm",
    "pointer",
    "value_name",
    "why_unavailable",
]
