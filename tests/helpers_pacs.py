"""An Orthanc with series of a known content, and a model that really sees them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from helpers_dicom import COMPLETE, STACKS, write_series
from helpers_imaging import painted_as, painted_volume, ramp
from swin_umamba.models import ModelSpec, build_described_network, save_model

from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.orthanc import PLUGINS

ORGANS = {"liver": 1, "spleen": 2, "pancreas": 3, "bladder": 4}  # right, left, front, feet of `painted_volume`
NETWORK = {"name": "swin_umamba_tiny", "arguments": {"in_channels": 1}}
REQUIRED = "SWIN_UMAMBA_REQUIRE_E2E"  # set where a missing program is an error and no reason to skip


def need(what: str, found: bool) -> None:
    """Skip the tests of a module without a program, or fail where it has to be there."""
    if not found and os.environ.get(REQUIRED):
        pytest.fail(f"{what} is not installed, and {REQUIRED} is set")
    if not found:
        pytest.skip(f"{what} is not installed")


def need_orthanc() -> None:
    """Skip, or fail, without Orthanc and its DICOMweb plugin."""
    program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    need("Orthanc (Debian: orthanc)", program is not None)
    need("Orthanc's DICOMweb plugin (Debian: orthanc-dicomweb)", any(Path(file).is_file() for file in PLUGINS))


def write_stack(folder: Path, stack: str, **tags) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Write a series in which four organs are painted; return its files, the label map (column, row, slice), affine."""
    labels, affine = painted_as(*STACKS[stack])
    return write_series(folder, ramp(labels).astype(float), affine, **{**COMPLETE, **tags}), labels, affine


def send(client: PacsClient, files: Sequence[Path]) -> str:
    """Store a series in the PACS and return its UID."""
    datasets = [pydicom.dcmread(file) for file in files]
    client.store(datasets)
    return str(datasets[0].SeriesInstanceUID)


def write_seeing_model(folder: Path) -> Path:
    """Write a model that tells the painted organs by their brightness, trained for a few seconds."""
    unframed = {"images": {"spacing": [(1.0, 1.0)] * 3, "field_of_view": [(64.0, 64.0)] * 3}}  # no frame was seen
    spec = ModelSpec(name="seeing", network=NETWORK, labels=ORGANS, roi_size=(64, 64), training=unframed)
    torch.manual_seed(0)
    network = build_described_network(spec)
    labels = torch.from_numpy(painted_volume().transpose(2, 0, 1).astype(np.int64))  # (X, Y, Z) -> (Z, X, Y)
    images = torch.from_numpy(ramp(painted_volume()).transpose(2, 0, 1).astype(np.float32))
    images = ((images - images.mean()) / images.std())[:, None]
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    weights = torch.tensor([0.2, 1.0, 1.0, 1.0, 1.0])
    for step in range(STEPS):
        picked = torch.randint(0, len(labels), (4,))
        flips, shift = [axis for axis in (1, 2) if torch.rand(()) < 0.5], tuple(torch.randint(-8, 8, (2,)).tolist())
        turned = step % 2 == 1
        x, y = images[picked].roll(shift, (2, 3)), labels[picked].roll(shift, (1, 2))
        x, y = x.flip([axis + 1 for axis in flips]), y.flip(flips)
        x, y = (x.transpose(2, 3), y.transpose(1, 2)) if turned else (x, y)
        output = network(x + 0.05 * torch.randn_like(x))
        output = output[0] if isinstance(output, (list, tuple)) else output
        loss = torch.nn.functional.cross_entropy(output, y, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_model(folder, network, spec)
    return folder


STEPS = 150
