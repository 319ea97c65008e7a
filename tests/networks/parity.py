"""Weights, inputs and probes that anyone can draw again from a name alone; the golden numbers were made with them."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "networks"
DT_MIN, DT_MAX = math.log(1e-3), math.log(1e-1)


def golden(name: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Return what the official network `name` gave: (loss and parameters, outputs)."""
    with np.load(FIXTURES / f"{name}.npz") as outputs:
        return json.loads((FIXTURES / f"{name}.json").read_text()), dict(outputs)


def generator(text: str) -> np.random.Generator:
    """PCG64 seeded with the CRC-32 of `text`."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(text.encode())))


def value_of(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draw the parameter called `name`: one draw, then scaled by what kind of parameter it is."""
    if name.endswith(("dt_projs_bias", "dt_projs_weight")):
        uniform = generator(name).random(shape)
        if name.endswith("weight"):
            return (2 * uniform - 1) / math.sqrt(shape[-1])
        dt = np.exp(DT_MIN + uniform * (DT_MAX - DT_MIN))
        return dt + np.log(-np.expm1(-dt))
    normal = generator(name).standard_normal(shape)
    if name.endswith("A_logs"):
        return np.log(np.arange(1, shape[-1] + 1)) + 0.1 * normal
    if name.endswith("Ds") or (name.endswith(".weight") and len(shape) == 1):
        return 1 + 0.1 * normal
    if name.endswith(".bias"):
        return 0.05 * normal
    fan_in = shape[-1] if name.endswith("x_proj_weight") else math.prod(shape[1:])
    return normal / math.sqrt(fan_in)


def fill(network: nn.Module) -> nn.Module:
    """Give every parameter of `network` its drawn value, rounded to float32."""
    state = network.state_dict()
    drawn = {name: torch.from_numpy(value_of(name, tuple(old.shape)).astype(np.float32)) for name, old in state.items()}
    network.load_state_dict(drawn)
    return network


def image(*shape: int) -> torch.Tensor:
    """Draw the input of this shape, float32."""
    name = "input:" + "x".join(map(str, shape))
    return torch.from_numpy(generator(name).standard_normal(shape).astype(np.float32))


def probe(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Draw the direction that the gradient of parameter `name` is compared along, float64."""
    return torch.from_numpy(generator(f"probe:{name}").standard_normal(shape))
