"""Swin-UMamba for MONAI: vision-Mamba segmentation of abdominal MRI."""

__version__ = "0.1.0"
