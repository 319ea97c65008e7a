"""How much memory a training needs, counted from what autograd keeps for the backward pass of a small batch."""

from __future__ import annotations

import dataclasses
import os

import torch
from torch import Tensor, nn

from swin_umamba.errors import InputError

SIDES = (64, 128)  # of the images that are counted; what does not grow with them is the network's own
BATCH = 2
PARAMETER_BYTES = 16  # weight, gradient and two moments of AdamW, float32
WORKSPACE = 1.35  # peak by what is kept: gradients of activations, convolutions' buffers (measured: 1.2 to 1.35)
CPU_SHARE = 0.25  # of the main memory: cached volumes and the system need the rest
GIB = 2**30


@dataclasses.dataclass(frozen=True)
class TrainingMemory:
    """Memory of a training in bytes: `fixed` + `per_pixel` for each pixel of a batch."""

    fixed: float
    per_pixel: float

    def batch_size(self, roi_size: tuple[int, int], available: float) -> int:
        """Return how many slices of `roi_size` pixels fit into `available` bytes; 0 if none does."""
        return max(0, int((available - self.fixed) / (self.per_pixel * roi_size[0] * roi_size[1])))

    def needed(self, roi_size: tuple[int, int], batch_size: int) -> float:
        """Return the bytes that a batch needs."""
        return self.fixed + self.per_pixel * roi_size[0] * roi_size[1] * batch_size


def training_memory(network: nn.Module, in_channels: int, half: bool) -> TrainingMemory:
    """Estimate the memory of training a network with AdamW.

    Args:
        network: on the CPU.
        in_channels: of its images.
        half: mixed precision with bfloat16, as on a GPU; False counts float32.
    """
    kept = [_kept_bytes(network.train(), torch.zeros(BATCH, in_channels, side, side), half) for side in SIDES]
    pixels = [BATCH * side * side for side in SIDES]
    per_pixel = (kept[1] - kept[0]) / (pixels[1] - pixels[0])
    own = max(0.0, kept[0] - per_pixel * pixels[0])
    return TrainingMemory(fixed=_parameter_bytes(network) + own, per_pixel=WORKSPACE * per_pixel)


def step_memory(network: nn.Module, image: Tensor, batch_size: int) -> float:
    """Estimate the bytes of a training step with AdamW in float32, at one size; for networks that take no other.

    Args:
        network: on the CPU.
        image: (1, C, H, W).
        batch_size: images of a step.
    """
    kept = _kept_bytes(network.train(), image.repeat(BATCH, 1, 1, 1), half=False) / BATCH
    return _parameter_bytes(network) + WORKSPACE * kept * batch_size


def memory_at_hand() -> tuple[float, str]:
    """Return the bytes to plan for, and where they are: the first GPU's, or a quarter of the main memory."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return float(properties.total_memory), f"GPU {properties.name}"
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return CPU_SHARE * total, f"a quarter of this machine's {total / GIB:.0f} GiB; it has no GPU"


def check_memory(gigabytes: float) -> float:
    """Return GiB as bytes.

    Raises:
        InputError: if they are not above 0.
    """
    if not 0 < gigabytes < 1e6:
        raise InputError(f"--memory_gb {gigabytes}: legal: a number above 0")
    return gigabytes * GIB


def _parameter_bytes(network: nn.Module) -> int:
    return PARAMETER_BYTES * sum(parameter.numel() for parameter in network.parameters())


def _kept_bytes(network: nn.Module, images: Tensor, half: bool) -> int:
    """Return the bytes of what a forward pass keeps, beside the parameters."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}  # by storage; holding the tensors keeps their places from being used again

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in parameters:
            kept[place] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        outputs = network(images)
    del outputs
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
