"""What compiled backends and the operators on top of them agree on.

Autograd, torch.compile and torch.export see an operator as one step. Below it a compiled backend is a module with
`forward`, `backward`, `CHUNK` (steps between saved states; saving them spares the backward pass a scan) and
`TAKES_HALF` (whether u, packed and raw may be half precision). All work on one form, rows being places in memory order:

* u (B*L*Gu, D): what is scanned; Gu = 1 if all G groups read the same map and add to it, else G.
* packed (B*L*G, R+2N): low-rank steps, B and C. raw (B*L*G, D): full-rank steps; empty if R > 0.
* lift (G, R, D): weights that raise low-rank steps. ends (G, 2, D): bias of the steps, skip weights.
* rates (G, N, D): A. order (G, L): the place that each step of a group visits.
* saved (B, G, ceil(L/CHUNK), N, D): states before each chunk, written by forward; B is 0 if they are not wanted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .backends import backend_module


def real_type(tensor: Tensor) -> torch.dtype:
    """Return the type that the recurrence of such input runs in."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def new_saved(
    like: Tensor, batch: int, groups: int, length: int, states: int, channels: int, backend: str, save: bool
) -> Tensor:
    """Make memory for the states before each chunk, none if they are not to be saved."""
    chunk = backend_module(backend).CHUNK
    shape = (batch if save else 0, groups, (length + chunk - 1) // chunk, states, channels)
    return like.new_empty(shape, dtype=real_type(like))


def inputs_of(u: Tensor, packed: Tensor, raw: Tensor, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """Make inputs contiguous and of a type that the backend takes."""
    if not backend_module(backend).TAKES_HALF:
        real = real_type(u)
        u, packed, raw = u.to(real), packed.to(real), raw.to(real)
    return u.contiguous(), packed.contiguous(), raw.contiguous()
