"""Training on several processes that `torchrun` starts."""

from __future__ import annotations

import os

import ignite.distributed as idist
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from swin_umamba.devices import choose_device
from swin_umamba.errors import InputError


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


def rank_generator(seed: int) -> torch.Generator:
    """Return a random generator that differs from process to process, so that each draws its own samples."""
    return torch.Generator().manual_seed(seed + rank())


def join_processes(name: str | None = None) -> torch.device:
    """Join the process group that torchrun describes, by NCCL on GPUs and gloo on CPUs, and return the own device.

    Args:
        name: "cpu" for gloo; otherwise each process takes the GPU of its local rank where there are GPUs.

    Raises:
        InputError: if torchrun did not start this process, or more processes than GPUs were started.
    """
    if "LOCAL_RANK" not in os.environ:
        raise InputError(
            "multi_gpu_train.yaml needs torchrun: torchrun --nproc_per_node=2 -m monai.bundle run training …"
        )
    on_gpu = name != "cpu" and torch.cuda.is_available()
    device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else "cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if on_gpu else "gloo")
        idist.sync()  # ignite would do it, all processes waiting, in the first handler that only one of them has
    return device


def leave_processes() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def distribute(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """Wrap a network so that its gradients are averaged over the processes; rank 0's weights win.

    Unused parameters are looked for because the coarsest head has weight 0 and the encoder may be frozen.
    """
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=devices, find_unused_parameters=True)
