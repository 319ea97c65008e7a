"""The selective scan in plain PyTorch: slow but readable, differentiable, scriptable and exportable.

One scan follows h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t and y_t = C_t h_t + D u_t (Gu and Dao, "Mamba", eq. 2 to 4).
A loop over thousands of steps on tiny tensors would be slow and would unroll into a huge exported graph, so the
sequence is cut into chunks that step side by side: a first sweep from zero gives what each chunk adds, a short loop
over chunks carries the state, a second sweep from the carried states gives the outputs. Every argument of exp is a sum
of steps times A <= 0, hence nothing overflows. A scripted module on a CPU, where a step costs little more than its
arithmetic, takes the steps one by one instead: half the arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus


def selective_scan_reference(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Scan sequences with input-dependent steps; see `swin_umamba.scan.selective_scan` for the arguments."""
    real = torch.float64 if u.dtype == torch.float64 else torch.float32
    batch, channels, length = u.shape
    if B.dim() == 3:
        B, C = B.unsqueeze(1), C.unsqueeze(1)  # (B, N, L) -> (B, 1, N, L)
    groups, states = B.shape[1], B.shape[2]
    steps = delta.to(real)
    if delta_bias is not None:
        steps = steps + delta_bias.to(real).unsqueeze(-1)
    if delta_softplus:
        steps = softplus(steps)
    width = channels // groups
    y = _scan(
        u.to(real).view(batch, groups, width, length).transpose(2, 3),  # (B, D, L) -> (B, G, L, D/G)
        steps.view(batch, groups, width, length).transpose(2, 3),
        A.to(real).view(groups, width, states).transpose(1, 2),  # (D, N) -> (G, N, D/G)
        B.to(real).transpose(2, 3),  # (B, G, N, L) -> (B, G, L, N)
        C.to(real).transpose(2, 3),
    )
    y = y.transpose(2, 3).reshape(batch, channels, length)  # (B, G, L, D/G) -> (B, D, L)
    if D is not None:
        y = y + D.to(real).unsqueeze(-1) * u.to(real)
    return y.to(u.dtype)


def ss2d_scan_reference(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
) -> Tensor:
    """Scan a map along its four traversals and sum them; see `swin_umamba.scan.ss2d_scan` for the arguments."""
    real = torch.float64 if x.dtype == torch.float64 else torch.float32
    channels, states = x.shape[3], A_logs.shape[1]
    directions, rank = dt_projs_weight.shape[0], dt_projs_weight.shape[2]
    wide = torch.promote_types(x.dtype, x_proj_weight.dtype)
    weight = x_proj_weight.flatten(0, 1).to(wide)  # (4, R+2N, D) -> (4*(R+2N), D)
    maps = x.to(real)
    projected = torch.matmul(maps.to(wide), weight.t()).unflatten(3, [directions, rank + 2 * states])
    low, B, C = projected.split([rank, states, states], 4)  # (B, H, W, 4, R), (B, H, W, 4, N) twice
    delta = torch.matmul(low.movedim(3, 1).flatten(2, 3), dt_projs_weight.to(low.dtype).transpose(1, 2))
    delta = delta.to(real) + dt_projs_bias.to(real).unsqueeze(1)  # (B, 4, L, D), row-major
    steps = softplus(delta).unflatten(2, [x.shape[1], x.shape[2]])
    u = maps.unsqueeze(1).expand(-1, directions, -1, -1, -1)  # (B, H, W, D) -> (B, 4, H, W, D)
    y = _scan(
        traverse(u),
        traverse(steps),
        -torch.exp(A_logs.to(real)).view(directions, channels, states).transpose(1, 2),  # (4, N, D)
        traverse(B.to(real).movedim(3, 1)),
        traverse(C.to(real).movedim(3, 1)),
    )
    skip = Ds.to(real).view(directions, channels).sum(0)
    return (merge(y, x.shape[1], x.shape[2]) + skip * maps).to(x.dtype)


def traverse(maps: Tensor) -> Tensor:
    """Read each direction's map in its own order: rows, columns, and both backwards."""
    rows = maps[:, 0::2].flatten(2, 3)  # (B, 4, H, W, D) -> (B, 2, H*W, D)
    columns = maps[:, 1::2].transpose(2, 3).flatten(2, 3)  # (B, 2, W*H, D)
    return torch.stack([rows[:, 0], columns[:, 0], rows[:, 1].flip([1]), columns[:, 1].flip([1])], 1)


def merge(y: Tensor, height: int, width: int) -> Tensor:
    """Undo `traverse` and sum the directions: (B, 4, L, D) -> (B, H, W, D)."""
    rows = (y[:, 0] + y[:, 2].flip([1])).unflatten(1, [height, width])
    columns = (y[:, 1] + y[:, 3].flip([1])).unflatten(1, [width, height])
    return rows + columns.transpose(1, 2)


def _scan(u: Tensor, steps: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Run the recurrence of every group: step by step in a scripted module on a CPU, in chunks elsewhere.

    Args:
        u: input, (B, G, L, D).
        steps: step sizes >= 0, (B, G, L, D).
        A: rates <= 0, (G, N, D).
        B: input weights, (B, G, L, N).
        C: output weights, (B, G, L, N).

    Returns:
        y without the skip term, (B, G, L, D).
    """
    if torch.jit.is_scripting() and not u.is_cuda:
        return _scan_in_order(u, steps, A, B, C)
    return _scan_in_chunks(u, steps, A, B, C)


def _scan_in_order(u: Tensor, steps: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Take one step after the other; decays and inputs come a block of steps at a time, which the cache holds."""
    block = 16
    drives, A = steps * u, A.unsqueeze(1)  # (G, N, D) -> (G, 1, N, D)
    h = torch.zeros([u.shape[0], u.shape[1], A.shape[2], u.shape[3]], dtype=u.dtype, device=u.device)
    outputs: list[Tensor] = []
    for start in range(0, u.shape[2], block):
        end = start + block
        decays = torch.exp(steps[:, :, start:end].unsqueeze(3) * A)  # (B, G, T, N, D)
        inputs = drives[:, :, start:end].unsqueeze(3) * B[:, :, start:end].unsqueeze(4)
        states: list[Tensor] = []
        for decay, driven in zip(decays.unbind(2), inputs.unbind(2)):  # noqa: B905 - TorchScript's zip is always strict
            h = torch.addcmul(driven, h, decay)  # (B, G, N, D)
            states.append(h)
        outputs.append(torch.matmul(C[:, :, start:end].unsqueeze(3), torch.stack(states, 2)).squeeze(3))
    return torch.cat(outputs, 2)


def _scan_in_chunks(u: Tensor, steps: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Scan all chunks of the sequence at once, then once more from the states that were carried over."""
    length = u.shape[2]
    chunk = int(max(1.0, (float(length) ** 0.5) / 2))  # short chunks: they cost two sweeps, carrying costs one
    count = (length + chunk - 1) // chunk
    drives = _chunks(steps * u, count, chunk)
    steps_of = _chunks(steps, count, chunk)
    weights_in, weights_out = _chunks(B, count, chunk), _chunks(C, count, chunk)
    A = A.unsqueeze(1)  # (G, 1, N, D)
    h = torch.zeros([1, 1, 1, 1, 1], dtype=u.dtype, device=u.device)
    elapsed = torch.zeros_like(steps_of[0])
    for t in range(chunk):
        h = _step(h, steps_of[t], drives[t], A, weights_in[t])  # (B, G, K, N, D)
        elapsed = elapsed + steps_of[t]
    h = _carry(h, torch.exp(elapsed.unsqueeze(3) * A))
    outputs: list[Tensor] = []
    for t in range(chunk):
        h = _step(h, steps_of[t], drives[t], A, weights_in[t])
        outputs.append((h * weights_out[t].unsqueeze(4)).sum(3))  # (B, G, K, D)
    return torch.stack(outputs, 3).flatten(2, 3)[:, :, :length]


def _chunks(sequence: Tensor, count: int, chunk: int) -> list[Tensor]:
    """Cut (B, G, L, D) into `count` chunks and return every step of all of them, `chunk` times (B, G, K, D).

    Zeros fill the last chunk: a step of size 0 leaves the state alone.
    """
    padded = pad(sequence, [0, 0, 0, count * chunk - sequence.shape[2]])
    return list(padded.unflatten(2, [count, chunk]).unbind(3))


def _step(h: Tensor, step: Tensor, drive: Tensor, A: Tensor, B: Tensor) -> Tensor:
    decay = (step.unsqueeze(3) * A).exp_()  # (B, G, K, 1, D) * (G, 1, N, D)
    return (drive.unsqueeze(3) * B.unsqueeze(4)).addcmul_(h, decay)  # in place: passes over memory are what it costs


def _carry(added: Tensor, decay: Tensor) -> Tensor:
    """Turn what each chunk adds to a state of zero into the state at its start, (B, G, K, N, D)."""
    state = torch.zeros_like(added[:, :, 0])
    starts: list[Tensor] = []
    for more, kept in zip(added.unbind(2), decay.unbind(2)):  # noqa: B905 (TorchScript has no strict)
        starts.append(state)
        state = state * kept + more
    return torch.stack(starts, 2)
