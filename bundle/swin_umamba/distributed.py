"""Working on several processes that `torchrun` starts."""

from __future__ import annotations

import datetime
import os
import signal
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
import torch.distributed as dist
from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from swin_umamba.devices import choose_device
from swin_umamba.errors import InputError

T = TypeVar("T")
LOST_PROCESS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
TIMEOUT = datetime.timedelta(minutes=30)  # for a process that does not answer; one that dies is noticed at once


def rank() -> int:
    """Return this process's number among all, 0 where there is only one."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_rank_zero() -> bool:
    """Return whether this process writes the files."""
    return rank() == 0


def share_of(total: int, slices_per_volume: int = 1) -> int:
    """Return how many volumes this process draws for a batch.

    Args:
        total: slices of the whole batch.
        slices_per_volume: that each volume gives.

    Raises:
        InputError: if the processes cannot share the batch evenly, in whole volumes.
    """
    step = world_size() * slices_per_volume
    if total < 1 or total % step:
        shared = f"{world_size()} processes cannot share it evenly"
        volumes = f", {slices_per_volume} slices of each volume" if slices_per_volume > 1 else ""
        raise InputError(f"batch size {total}: {shared}{volumes}; legal: a multiple of {step}")
    return total // step


def own_cases(cases: Sequence[T], *, every_process: bool = True) -> list[T]:
    """Return the cases that this process goes through: every one of them falls to one process.

    Args:
        cases: all of them, in the same order in every process.
        every_process: where there are fewer cases than processes, let each process go through all of them, for a mean
            that all have to take part in; it is the same mean.
    """
    if every_process and 0 < len(cases) < world_size():
        return list(cases)
    return list(cases[rank() :: world_size()])


def together() -> bool:
    """Return whether this process has joined others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; gradients of all of them flow back into each one's part.

    `GradientAveraging` averages gradients over processes. A loss that every process computes from such sums gets
    the gradient that one process would have computed from the whole batch.
    """
    return all_reduce(value) if together() else value


def mean_over_ranks(value: float, device: torch.device | str) -> float:
    """Return the mean of a number over all processes, which must all ask for it."""
    if not together():
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.item() / dist.get_world_size()


def gather_cases(own: Sequence[T]) -> list[T]:
    """Return what all processes have of the cases that `own_cases` shared out, in the order of the cases.

    Every process has to ask for it, and gets it all.

    Args:
        own: one picklable thing for each case of this process.
    """
    if not together():
        return list(own)
    shares: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(shares, list(own))
    return [share[index] for index in range(len(max(shares, key=len))) for share in shares if index < len(share)]


def wait_for_all() -> None:
    """Return when every process has come here."""
    if together():
        dist.barrier()


def same_on_all_ranks(value: str) -> str:
    """Return the first process's value, which all processes must ask for together."""
    if not together():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def lost_process_error(error: BaseException) -> InputError | None:
    """Return what to tell the user of an error that came up because another process is gone, or None."""
    text = " ".join(str(error).split())
    if together() and (isinstance(error, dist.DistError) or any(sign in text for sign in LOST_PROCESS)):
        return InputError(f"process {rank()} of {world_size()} lost the others, one of them has died: {text[:200]}")
    return None


def join_processes(name: str | None = None) -> torch.device:
    """Join the process group that torchrun describes, by NCCL on GPUs and gloo on CPUs, and return the own device.

    Args:
        name: "cpu" for gloo; otherwise each process takes the GPU of its local rank where there are GPUs.

    Raises:
        InputError: if torchrun did not start this process, or more processes than GPUs were started.
    """
    if "LOCAL_RANK" not in os.environ:
        raise InputError(
            "multi_gpu_*.yaml needs torchrun: torchrun --nproc_per_node=2 -m monai.bundle run training --config_file …"
        )
    on_gpu = name != "cpu" and torch.cuda.is_available()
    device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else "cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    signal.signal(signal.SIGTERM, _ended_by_launcher)  # which may notice sooner than this process that one is gone
    if not dist.is_initialized():
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
        idist.sync()  # ignite would do it, all processes waiting, in the first handler that only one of them has
    return device


def _ended_by_launcher(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cause = "one of the others has died, or the run was asked to stop"
    raise InputError(f"process {rank()} of {world_size()} was ended by torchrun: {cause}")


def leave_processes() -> None:
    """Leave the process group."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if dist.is_initialized():
        dist.destroy_process_group()


def same_start(network: nn.Module) -> nn.Module:
    """Give the network of every process the first one's weights and buffers; all processes have to ask for it."""
    for value in network.state_dict().values() if together() else ():
        dist.broadcast(value, src=0)
    return network


class GradientAveraging:
    """Average the gradients over the processes after each backward pass, before anything looks at them.

    All of them travel in one piece, when the backward pass is over: it may have been replayed from a CUDA graph, whose
    gradients `DistributedDataParallel` does not see. A process alone does nothing.

    Args:
        network: trained by every process, from the same start (`same_start`), with the same parameters frozen.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Act when the trainer has computed the gradients; of handlers of that event it must be the first."""
        if together():
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine | None = None) -> None:
        """Replace each gradient by its mean over the processes."""
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        everything = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(everything)
        everything /= dist.get_world_size()
        parts = everything.split([gradient.numel() for gradient in gradients])
        means = [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]
        torch._foreach_copy_(gradients, means)


def finish_exchanges() -> None:
    """Return when nothing that this process sent or asked for is under way, on a GPU.

    NCCL's watchdog asks CUDA ten times a second how unfinished work stands, which would end a CUDA graph's recording in
    this process; what is finished it forgets within a second.
    """
    if together() and torch.cuda.is_available():
        torch.cuda.synchronize()
        time.sleep(2)
