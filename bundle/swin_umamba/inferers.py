"""Running a 2D network over a volume, slab of axial slices by slab, so that memory does not grow with the slices."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, sliding_window_inference
from monai.networks.utils import eval_mode
from monai.utils import convert_to_dst_type
from torch import Tensor, nn
from torch.nn import functional as F

from swin_umamba.case_warnings import warn_of_case
from swin_umamba.confidence import OrganConfidence
from swin_umamba.errors import InputError
from swin_umamba.image_checks import THICK
from swin_umamba.transforms import check_spacing, in_plane_size, spacing_of

AMP_DTYPES: dict[Any, torch.dtype | None] = {"bfloat16": torch.bfloat16, "float16": torch.float16, None: None}
CPU_PIXELS = 4 * 256 * 256  # that go through a network together on a CPU; more leave its caches and gain nothing
LARGEST_SLICE = 8192  # pixels along one side after resampling; more is a wrong spacing, not an image


class AxialSliceInferer(Inferer):
    """Segment a volume with a 2D network, a few axial slices at a time.

    Each slab of slices is resampled in plane to the model's spacing, sent through the network, whole slices when they
    fit `roi_size` and overlapping windows with Gaussian weights otherwise, resampled back to the image's own grid as
    logits, and only then turned into labels. Beside the volume and its label map, memory holds one slab.

    Smaller slices get a frame of 0, the image's mean, up to `roi_size`, as in training: without it the statistics of
    instance norm are others than those that the network has learnt with, and labels of small images may be nonsense.

    With `mirror_axes` the logits are averaged over the slice and its mirror images along each combination of the axes
    (nnU-Net's test-time augmentation); time doubles with every axis.

    The interpolation is linear between pixel centres without smoothing, in both directions: training resamples in the
    same way, `swin_umamba.transforms.InPlaneSpacingd`.

    Args:
        roi_size: (x, y) in pixels, at the model's spacing, of what goes through the network in one piece.
        spacing: (x, y) in mm that the network was trained at; None takes each image as it is, unless its pixels are
            far from square.
        sw_batch_size: slices or windows that go through the network together; on a CPU fewer if they are large.
        overlap: of neighbouring windows, as a fraction from 0 to below 1.
        mirror_axes: of the slice to mirror at test time, any of 0 (left-right) and 1 (front-back).
        slab_size: slices that are held as logits at once.
        frame: False takes smaller slices as they are, for a network that has never seen a frame.
        amp_dtype: "bfloat16" or "float16" (or torch's own) for autocast; None computes in the network's precision.
        confidence: is given the logits of each slab; its result is that of the last volume.

    Raises:
        InputError: for an argument outside of its range.
    """

    def __init__(
        self,
        *,
        roi_size: Sequence[int],
        spacing: Sequence[float] | None = None,
        sw_batch_size: int = 8,
        overlap: float = 0.5,
        mirror_axes: Sequence[int] = (),
        slab_size: int = 16,
        frame: bool = True,
        amp_dtype: str | torch.dtype | None = None,
        confidence: OrganConfidence | None = None,
    ) -> None:
        super().__init__()
        self.roi_size = tuple(int(side) for side in roi_size)
        self.spacing = check_spacing(spacing)
        self.sw_batch_size = int(sw_batch_size)
        self.overlap = float(overlap)
        self.mirror_axes = tuple(mirror_axes)
        self.slab_size = int(slab_size)
        self.frame = bool(frame)
        self.confidence = confidence
        self.amp_dtype: Any = AMP_DTYPES.get(amp_dtype, amp_dtype)
        self._check()

    def _check(self) -> None:
        checks = [
            ("roi_size", self.roi_size, len(self.roi_size) == 2 and min(self.roi_size) > 0, "two positive integers"),
            ("sw_batch_size", self.sw_batch_size, self.sw_batch_size > 0, "1 or more"),
            ("overlap", self.overlap, 0 <= self.overlap < 1, "0 to below 1"),
            ("mirror_axes", self.mirror_axes, self.mirror_axes in ((), (0,), (1,), (0, 1)), "[], [0], [1], [0, 1]"),
            ("slab_size", self.slab_size, self.slab_size > 0, "1 or more"),
            ("amp_dtype", self.amp_dtype, self.amp_dtype in AMP_DTYPES.values(), "null, bfloat16, float16"),
        ]
        for name, value, good, legal in checks:
            if not good:
                raise InputError(f"{name} {value}: legal: {legal}")

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Segment a batch of volumes.

        Args:
            inputs: (B, C, X, Y, Z) in RAS, a MetaTensor with its affine if the slices are to be resampled.
            network: takes (N, C, x, y) and gives logits (N, K, x, y), K up to 256; it is put into evaluation mode for
                the call. Slabs go to its device, wherever `inputs` are.
            args: further arguments of the network.
            kwargs: further arguments of the network by name.

        Returns:
            Label map (B, 1, X, Y, Z) uint8 on the grid and device of `inputs`.
        """
        if inputs.ndim != 5:
            raise InputError(f"AxialSliceInferer takes (B, C, X, Y, Z), not {tuple(inputs.shape)}")
        volumes = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        labels = torch.zeros((len(volumes), 1, *volumes.shape[2:]), dtype=torch.uint8, device=volumes.device)
        device = next(network.parameters(), volumes).device if isinstance(network, nn.Module) else volumes.device
        with torch.no_grad(), eval_mode(network) if isinstance(network, nn.Module) else contextlib.nullcontext():
            for index, volume in enumerate(volumes):
                spacing = _spacing_in_batch(inputs, index)
                self._segment(volume, labels[index, 0], spacing, device, lambda x: network(x, *args, **kwargs))
        return convert_to_dst_type(labels, inputs, dtype=torch.uint8)[0]

    def _segment(
        self,
        volume: Tensor,
        labels: Tensor,
        spacing: tuple[float, float, float] | None,
        device: torch.device,
        network: Callable[[Tensor], Tensor],
    ) -> None:
        """Write the label map of one volume (C, X, Y, Z) into `labels` (X, Y, Z)."""
        if self.confidence is not None:
            self.confidence.start()
        low, high = torch.aminmax(volume)
        if low == high:
            warn_of_case(f"the image is constant: every voxel is {float(low):.6g}; its label map is empty")
            return
        size = self._network_size(volume.shape[1:3], spacing)
        for start in range(0, volume.shape[3], self.slab_size):
            slab = volume[..., start : start + self.slab_size].to(device, torch.float32)
            slices = slab.permute(3, 0, 1, 2).contiguous()  # (C, X, Y, S) -> (S, C, X, Y)
            logits = self._mirrored(_resample(slices, size), network)
            if not torch.isfinite(logits.sum()):  # NaN and infinity survive a sum, which is far cheaper than a mask
                precision = f"; amp_dtype {self.amp_dtype} may be the cause, null is exact" if self.amp_dtype else ""
                raise InputError(f"the network's output is not finite in slices {start} and following{precision}")
            own_grid = _resample(logits, volume.shape[1:3])  # (S, K, X, Y)
            found = own_grid.max(dim=1).indices.to(torch.uint8)  # (S, X, Y); argmax takes thrice as long on a CPU
            if self.confidence is not None:
                self.confidence.add(own_grid, found)
            labels[..., start : start + self.slab_size] = found.permute(1, 2, 0).to(labels.device)  # (X, Y, S)

    def _network_size(self, size: Sequence[int], spacing: tuple[float, float, float] | None) -> tuple[int, int]:
        """Return the size (x, y) at which slices go through the network."""
        if spacing is None:
            if self.spacing is not None:
                raise InputError("AxialSliceInferer resamples slices: its input must be a MetaTensor with an affine")
            return (int(size[0]), int(size[1]))
        finest = min(spacing[:2])
        long_pixels = max(spacing[:2]) > THICK * finest  # acquired in another plane: no network has seen such pixels
        result = in_plane_size(size, spacing[:2], self.spacing or ((finest, finest) if long_pixels else None))
        if result != tuple(size) and max(result) > LARGEST_SLICE:
            raise InputError(
                f"slices of {list(size)} pixels of {spacing[0]:.4g} x {spacing[1]:.4g} mm are {list(result)} pixels at "
                f"the spacing {self.spacing or finest} mm; legal: up to {LARGEST_SLICE}"
            )
        return result

    def _mirrored(self, slices: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Return logits (S, K, x, y) in float32, averaged over the mirror images of the slices (S, C, x, y)."""
        total = self._predict(slices, network)
        combinations = [c for n in (1, 2) for c in itertools.combinations([axis + 2 for axis in self.mirror_axes], n)]
        for axes in combinations:
            total += self._predict(slices.flip(axes), network).flip(axes)
        return total / (len(combinations) + 1) if combinations else total

    def _predict(self, slices: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Return logits (S, K, x, y) in float32 of slices (S, C, x, y), whole or by windows."""

        def logits_of(windows: Tensor) -> Tensor:
            with torch.autocast(windows.device.type, self.amp_dtype, enabled=self.amp_dtype is not None):
                return network(windows).float()

        x, y = (
            _margins(*sides) if self.frame else (0, 0) for sides in zip(slices.shape[2:], self.roi_size, strict=True)
        )
        framed = F.pad(slices, (*y, *x)) if any((*x, *y)) else slices
        size = framed.shape[2:]
        if size[0] <= self.roi_size[0] and size[1] <= self.roi_size[1]:
            logits = torch.cat([logits_of(chunk) for chunk in framed.split(self._together(framed, size))])
        else:
            logits = sliding_window_inference(  # type: ignore[assignment]  # a tensor, as the network gives one
                framed,
                self.roi_size,
                self._together(framed, self.roi_size),
                logits_of,
                overlap=self.overlap,
                mode="gaussian",
            )
        return logits[..., x[0] : size[0] - x[1], y[0] : size[1] - y[1]]

    def _together(self, slices: Tensor, size: Sequence[int]) -> int:
        """Return how many slices or windows of `size` pixels go through the network at once."""
        fit = self.sw_batch_size if slices.is_cuda else max(1, CPU_PIXELS // (int(size[0]) * int(size[1])))
        return min(self.sw_batch_size, fit)


def _margins(side: int, least: int) -> tuple[int, int]:
    """Return the pixels before and behind a side that make it `least` long, as MONAI's `SpatialPad` shares them."""
    missing = max(least - side, 0)
    return missing // 2, missing - missing // 2


def _resample(slices: Tensor, size: Sequence[int]) -> Tensor:
    """Return slices (S, C, x, y) with `size` pixels, interpolated in float32."""
    if tuple(slices.shape[2:]) == tuple(size):
        return slices
    return F.interpolate(slices, size=tuple(size), mode="bilinear", align_corners=False)


def _spacing_in_batch(inputs: Tensor, index: int) -> tuple[float, float, float] | None:
    if not isinstance(inputs, MetaTensor):
        return None
    return spacing_of(inputs.affine[index] if inputs.affine.ndim == 3 else inputs.affine)
