"""The `cuda` backend: CUDA C++ kernels, compiled at the first call by the NVRTC that comes with PyTorch.

The kernels and what they assume are described at the head of swin_umamba/cuda/scan.cuh. Here: which of them a problem
needs, in how many segments, and the matrix products around them.
"""

from __future__ import annotations

import ctypes
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from swin_umamba.cuda import Kernels, cores_of, load_kernels, pointer, value_name, why_unavailable

from .backends import BackendStatus

CHUNK = 32  # steps between two saved states
TAKES_HALF = True
MOST_STATES = 64  # more do not fit the shared memory of a block
_CHANNELS, _THREADS, _WINDOW, _SUB, _STRIDE = 32, 128, 16, 8, 36  # as in the sources
_MOST_LIFTED = 16  # larger ranks are lifted by a matrix product
_BLOCKS_PER_CORE = 4


@cache
def status() -> BackendStatus:
    """It needs an NVIDIA GPU and NVRTC."""
    reason = why_unavailable()
    return BackendStatus(reason is None, reason or "CUDA kernels, compiled by NVRTC at the first call")


def refusal(device_type: str, dtype: torch.dtype, states: int = 16) -> str | None:
    """Return why such a tensor cannot be scanned."""
    if device_type != "cuda":
        return "the cuda backend takes tensors on a CUDA GPU"
    if states > MOST_STATES:
        return f"the cuda backend scans up to {MOST_STATES} states, not {states}"
    half_or_single = (torch.float32, torch.float16, torch.bfloat16)
    return None if dtype in half_or_single else "the cuda backend scans float32, float16 and bfloat16"


class _Arguments(ctypes.Structure):
    """`struct Scan` of the sources."""

    _fields_ = (
        [(name, ctypes.c_void_p) for name in ("u", "packed", "raw", "lift", "bias", "rates", "order")]
        + [(name, ctypes.c_longlong) for name in ("u_row", "u_group", "part_group", "step_row", "step_group")]
        + [(name, ctypes.c_int) for name in ("length", "channels", "groups", "segment", "segments", "blocks")]
    )


@dataclass
class _Scan:
    """One problem: tensors as in compiled.py, but `lift` (G, D, R), `bias` (G, D) and `rates` (G, D, N) in float32.

    `logs`: rates are given as log(-A). `raw` is laid out (G, B*L, D) if groups share their map, else (B*L*G, D).
    """

    u: Tensor
    packed: Tensor
    raw: Tensor
    lift: Tensor
    bias: Tensor
    rates: Tensor
    order: Tensor
    activate: bool
    logs: bool

    def __post_init__(self) -> None:
        self.groups, self.length = self.order.shape
        self.channels, self.states = self.rates.shape[-2:]
        self.rank = self.packed.shape[1] - 2 * self.states
        self.padded = (self.states + 3) // 4 * 4
        self.images = self.packed.shape[0] // (self.groups * self.length)
        self.shared = self.u.shape[0] < self.packed.shape[0]
        self.blocks = (self.channels + _CHANNELS - 1) // _CHANNELS
        self.segment, self.segments = self._cut()
        self.tensor_cores = self.u.element_size() == 2 and self.padded == 16 and _ampere(self.u.device)

    def _cut(self) -> tuple[int, int]:
        """Return the length of a segment, whole chunks, and how many there are, so that the GPU has enough blocks.

        More than one costs a pass more over all steps, so there is one as long as every multiprocessor gets a block.
        """
        cores, blocks = cores_of(self.u.device), self.images * self.groups * self.blocks
        chunks = (self.length + CHUNK - 1) // CHUNK
        segments = 1 if blocks >= cores else min(chunks, (_BLOCKS_PER_CORE * cores + blocks - 1) // blocks)
        segment = (chunks + segments - 1) // segments * CHUNK
        return segment, (self.length + segment - 1) // segment

    @property
    def grid(self) -> int:
        """Blocks in all."""
        return self.images * self.groups * self.segments * self.blocks

    def kernels(self, file: str) -> Kernels:
        """Return the kernels of a source for this problem's types and sizes."""
        value, packed = value_name(self.u.dtype), value_name(self.packed.dtype)
        return load_kernels(
            file, self.u.device, VALUE=value, PACKED=packed, PART=value, STATES=self.states, PADDED=self.padded,
            RANK=self.rank, LIFTED=0 if self.raw.numel() else self.lift.shape[-1], ACTIVATE=self.activate,
            LOGS=self.logs, WHOLE=self.channels % 8 == 0 and _aligned(self.u, self.raw),
            PACKED_WHOLE=self.rank % 8 == 0 and self.states % 16 == 0 and _aligned(self.packed),
            OFFSET="int" if max(self.packed.numel(), self.groups * self.u.numel()) < 2**31 else "long long",
            TENSOR=self.tensor_cores, BLOCKS=_BLOCKS_PER_CORE,
        )  # fmt: skip

    def arguments(self) -> _Arguments:
        """Return what every kernel takes first."""
        rows, columns = self.u.shape
        per_group = 0 if self.shared else self.channels
        row = columns if self.shared else self.groups * self.channels
        part_group = self.u.numel() if self.shared else self.channels
        step_group = rows * self.channels if self.shared else self.channels
        tensors = (self.u, self.packed, self.raw, self.lift, self.bias, self.rates, self.order)
        sizes = (self.length, self.channels, self.groups, self.segment, self.segments, self.blocks)
        return _Arguments(*(pointer(t) for t in tensors), row, per_group, part_group, row, step_group, *sizes)

    def carries(self, name: str, *maps: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Run a kernel that finds what each segment adds to a carry of zero; with one segment there is none."""
        if self.segments == 1:
            return None, None
        sequences = self.images * self.groups
        added = self.bias.new_empty((sequences, self.segments, self.padded, self.channels))
        elapsed = self.bias.new_empty((sequences, self.segments, self.channels))
        given = [self.arguments(), *(pointer(m) for m in maps), pointer(added), pointer(elapsed)]
        self.kernels("scan_forward.cu")(name, self.grid, _THREADS, given)
        return added, elapsed

    def forward(self, saved: Tensor) -> Tensor:
        """Scan and return y without its skip term, (G, B*L, D) if groups share their map, else like u."""
        y = self.u.new_empty((self.groups, *self.u.shape) if self.shared else self.u.shape)
        carries = self.carries("scan_local")
        given = [self.arguments(), pointer(y), pointer(saved), *(pointer(c) for c in carries)]
        self.kernels("scan_forward.cu")("scan_forward", self.grid, _THREADS, given)
        return y

    def backward(self, gy: Tensor, saved: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the gradients by u without the skip term, as y; by steps, as raw; shares of those by B and C.

        The last two are (G, D, N), by what the rates are given as, and (G, 2, D), by bias and skip weights.
        """
        gu = self.u.new_empty((self.groups, *self.u.shape) if self.shared else self.u.shape)
        gsteps = self.packed.new_empty(
            (self.groups * self.u.shape[0] if self.shared else self.u.shape[0], self.channels)
        )
        shares = self.packed.new_empty((self.blocks, self.packed.shape[0], 2 * self.states))
        parts = (self.images * self.segments, self.groups)
        grates = self.rates.new_empty((*parts, self.channels, self.states))
        gends = self.rates.new_empty((*parts, 2, self.channels))
        carries = self.carries("scan_local_gradients", gy)
        outputs = (gy, saved, *carries, gu, gsteps, shares, grates, gends)
        given = [self.arguments(), *(pointer(t) for t in outputs)]
        self.kernels("scan_backward.cu")("scan_backward", self.grid, _THREADS, given, self.memory())
        return gu, gsteps, shares, grates.sum(0), gends.sum(0)

    def memory(self) -> int:
        """Bytes of shared memory of a block of scan_backward, `struct Shared` there."""
        own = self.padded // 4
        shares = (2 * own + 7) // 8 * 8
        words = CHUNK * (3 * _STRIDE + 2 * self.padded + 5) + CHUNK // _SUB * own * _THREADS
        words += _THREADS // 32 * _WINDOW * 4 * shares
        words += (max(self.rank, 1) + 1) * _CHANNELS
        return (4 * words + 15) // 16 * 16


def merge(parts: Tensor, u: Tensor, skip: Tensor) -> Tensor:
    """Return the sum of parts (G, rows, D) + skip (D) u (rows, D), in the type of u."""
    rows, channels = u.shape
    out = torch.empty_like(u)
    kernels = _merging(u, u, channels % 8 == 0 and _aligned(u, parts))
    sizes = (ctypes.c_longlong(rows), ctypes.c_int(channels), ctypes.c_int(parts.shape[0]))
    threads = rows * ((channels + 7) // 8)
    kernels("merge_parts", (threads + 255) // 256, 256, [*(pointer(t) for t in (parts, u, skip, out)), *sizes])
    return out


def merge_shares(shares: Tensor, out: Tensor) -> None:
    """Write the sum of shares (blocks, cells, width) into the last columns of `out` (cells, rank + width)."""
    blocks, cells, width = shares.shape
    sizes = (ctypes.c_longlong(cells), *(ctypes.c_int(size) for size in (width, out.shape[1] - width, blocks)))
    kernels = _merging(shares, shares, width % 8 == out.shape[1] % 8 == 0 and _aligned(shares, out))
    threads = cells * ((width + 7) // 8)
    kernels("merge_shares", (threads + 255) // 256, 256, [pointer(shares), pointer(out), *sizes])


def _merging(value: Tensor, packed: Tensor, whole: bool) -> Kernels:
    names = {"VALUE": value_name(value.dtype), "PART": value_name(value.dtype), "PACKED": value_name(packed.dtype)}
    return load_kernels("merge.cu", value.device, **names, WHOLE=whole, PACKED_WHOLE=whole)


def ss2d_forward(
    x: Tensor, x_proj_weight: Tensor, dt_projs_weight: Tensor, dt_projs_bias: Tensor, A_logs: Tensor, Ds: Tensor,
    order: Tensor, saved: Tensor,
) -> Tensor:  # fmt: skip
    """Return the sum of the four scans (B, H, W, D); `order` (4, H*W) are the traversals."""
    with _on_device(x):
        scan = _ss2d(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, order)
        skip = Ds.float().view(order.shape[0], -1).sum(0)
        return merge(scan.forward(saved), scan.u, skip).view(x.shape)


def ss2d_backward(
    gy: Tensor, x: Tensor, x_proj_weight: Tensor, dt_projs_weight: Tensor, dt_projs_bias: Tensor, A_logs: Tensor,
    Ds: Tensor, order: Tensor, saved: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return the gradients by the six inputs of `ss2d_forward`, in whatever type they come."""
    with _on_device(x):
        scan = _ss2d(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, order)
        u, packed, rank, groups = scan.u, scan.packed, scan.rank, scan.groups
        gy = gy.reshape(u.shape).to(u.dtype).contiguous()
        gu, gsteps, shares, grates, gends = scan.backward(gy, saved)
        gu = merge(gu, gy, Ds.float().view(groups, -1).sum(0))
        gsteps = gsteps.view(groups, -1, scan.channels)  # (4, B*L, D)
        gpacked = torch.empty_like(packed)  # (B*L*4, R+2N)
        merge_shares(shares, gpacked)
        real = dt_projs_weight.shape[2]
        weight = pad(dt_projs_weight.to(gsteps.dtype), (0, rank - real))  # (4, D, R)
        by_cell = gpacked.view(-1, groups, packed.shape[1])  # (B*L, 4, R+2N)
        torch.bmm(gsteps, weight, out=by_cell[:, :, :rank].transpose(0, 1))  # (B*L, 4, R) as (4, B*L, R)
        low = packed.view(by_cell.shape)[:, :, :rank].transpose(0, 1)  # (4, B*L, R)
        gweight = torch.bmm(gsteps.transpose(1, 2), low)[:, :, :real]
        project = _pad_rank(x_proj_weight.to(packed.dtype), real).flatten(0, 1)  # (4*(R+2N), D)
        gpacked = gpacked.view(-1, project.shape[0])  # (B*L, 4*(R+2N))
        gx = torch.addmm(gu.to(packed.dtype), gpacked, project)
        gproject = (gpacked.t() @ u.to(packed.dtype)).view(groups, -1, scan.channels)
        gproject = torch.cat([gproject[:, :real], gproject[:, rank:]], 1)
        return (
            gx.view(x.shape),
            gproject.view(x_proj_weight.shape), gweight, gends[:, 0], grates.view(A_logs.shape),
            gends[:, 1].flatten(),
        )  # fmt: skip


def _ss2d(x, x_proj_weight, dt_projs_weight, dt_projs_bias, A_logs, order) -> _Scan:
    channels, rank = x.shape[3], dt_projs_weight.shape[2]
    u = x.reshape(-1, channels).contiguous()
    wide = torch.promote_types(x.dtype, x_proj_weight.dtype)
    project = _pad_rank(x_proj_weight.to(wide), rank)
    packed = u.to(wide) @ project.flatten(0, 1).t()  # (B*L, D) @ (D, 4*(R+2N))
    packed = packed.view(-1, project.shape[1])  # (B*L*4, R+2N)
    raw = u.new_empty(0)
    if rank > _MOST_LIFTED:
        low = packed.view(-1, 4, packed.shape[1])[:, :, :rank].transpose(0, 1)  # (4, B*L, R)
        raw = torch.bmm(low, dt_projs_weight.to(low.dtype).transpose(1, 2))  # (4, B*L, D)
    lift, bias, rates = (t.float().contiguous() for t in (dt_projs_weight, dt_projs_bias, A_logs))
    return _Scan(u, packed, raw, lift, bias, rates.view(4, channels, -1), order, True, True)


def _pad_rank(weight: Tensor, rank: int) -> Tensor:
    """Put rows of zeros after the first `rank` of (4, R+2N, D), so that rows of the product are aligned."""
    missing = -rank % 8
    if missing == 0:
        return weight
    zeros = weight.new_zeros((weight.shape[0], missing, weight.shape[2]))
    return torch.cat([weight[:, :rank], zeros, weight[:, rank:]], 1)


def forward(
    u: Tensor, packed: Tensor, raw: Tensor, lift: Tensor, ends: Tensor, rates: Tensor, order: Tensor,
    activate: bool, saved: Tensor,
) -> Tensor:  # fmt: skip
    """Scan; the arguments are those of compiled.py, every group with a map of its own. Returns y, shaped like u."""
    with _on_device(u):
        scan = _sequences(u, packed, raw, ends, rates, order, activate)
        y = scan.forward(saved).view(-1, order.shape[0] * u.shape[1])  # (B*L*G, D) -> (B*L, G*D)
        return merge(y[None], u.view(y.shape), ends[:, 1].flatten()).view(u.shape)


def backward(
    gy: Tensor, u: Tensor, packed: Tensor, raw: Tensor, lift: Tensor, ends: Tensor, rates: Tensor, order: Tensor,
    activate: bool, saved: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients by u, the steps before softplus (B*L*G, D), B and C (B*L*G, 2N), rates and ends."""
    with _on_device(u):
        scan = _sequences(u, packed, raw, ends, rates, order, activate)
        gu, gsteps, shares, grates, gends = scan.backward(gy, saved)
        gu = gu.view(-1, order.shape[0] * u.shape[1])
        gu = merge(gu[None], gy.view(gu.shape), ends[:, 1].flatten()).view(u.shape)
        gweights = torch.empty_like(packed)
        merge_shares(shares, gweights)
        return gu, gsteps, gweights, grates.transpose(1, 2), gends


def _sequences(u, packed, raw, ends, rates, order, activate) -> _Scan:
    bias, rates = ends[:, 0].contiguous(), rates.transpose(1, 2).contiguous()  # (G, N, D) -> (G, D, N)
    raw = raw.to(packed.dtype)
    return _Scan(u, packed, raw, bias.new_empty(0), bias, rates, order, activate, False)


def _aligned(*tensors: Tensor) -> bool:
    """Whether eight numbers from the start on can be read in 16-byte accesses."""
    return all(tensor.data_ptr() % 16 == 0 for tensor in tensors)


def _on_device(tensor: Tensor):
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


@cache
def _ampere(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
