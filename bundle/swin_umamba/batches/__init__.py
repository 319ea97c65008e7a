"""Batches of augmented slices, made on the device that trains: all samples of a batch are changed at once."""

from swin_umamba.batches.appearance import (
    RandGamma,
    RandIntensityMap,
    RandLinear,
    RandShallowNetwork,
    RandTissueContrast,
)
from swin_umamba.batches.artefacts import (
    RandBiasField,
    RandBlur,
    RandFieldOfView,
    RandGhost,
    RandLowResolution,
    RandNoise,
)
from swin_umamba.batches.geometry import RandPlacement
from swin_umamba.batches.loader import BatchAugmentation, SliceBatches

__all__ = [
    "BatchAugmentation",
    "RandBiasField",
    "RandBlur",
    "RandFieldOfView",
    "RandGamma",
    "RandGhost",
    "RandIntensityMap",
    "RandLinear",
    "RandLowResolution",
    "RandNoise",
    "RandPlacement",
    "RandShallowNetwork",
    "RandTissueContrast",
    "SliceBatches",
]
