"""A data set, a model and configs so small that whole workflows run in seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers_imaging import write_nifti
from monai.bundle import ConfigWorkflow
from swin_umamba.models import ModelSpec, build_described_network, save_model

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundle"
LABELS = {"liver": 1, "spleen": 2}
AFFINE = np.diag([-1.5, -1.5, 4.0, 1.0])
SHAPE = (40, 36, 5)
TINY = {  # a training of two iterations
    "bundle_root": str(BUNDLE),
    "device_name": "cpu",
    "labels": LABELS,
    "network_name": "swin_umamba_d_tiny",
    "drop_path_rate": 0.0,
    "roi_size": [32, 32],
    "batch_size": 2,
    "iterations_per_epoch": 2,
    "val_interval": 1,
    "num_workers": 0,
    "cache_workers": 1,
    "train#trainer#max_epochs": 1,
}


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image of noise in which two organs are brighter, and its label map, both (40, 36, 5)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:16, 8:24, 1:5] = LABELS["liver"]
    labels[26:34, 10:20, 1:4] = LABELS["spleen"]
    return (rng.normal(100, 20, SHAPE) + 150 * labels).astype(np.int16), labels


def write_cases(folder: Path, sections: Mapping[str, int], **more: Any) -> Path:
    """Write so many cases of each section and their data list; `more` goes into the list."""
    plain: dict[str, Any] = {"labels": LABELS, **more}
    for section, count in sections.items():
        plain[section] = []
        for number in range(count):
            case = f"{section}{number}"
            image, labels = volume(seed=len(plain[section]) + 10 * len(plain))
            write_nifti(folder / f"{case}.nii.gz", image, AFFINE)
            write_nifti(folder / f"{case}_label.nii.gz", labels, AFFINE)
            plain[section].append({"case": case, "image": f"{case}.nii.gz", "label": f"{case}_label.nii.gz"})
    (folder / "datalist.json").write_text(json.dumps(plain), encoding="utf-8")
    return folder / "datalist.json"


def write_model(folder: Path, labels: Mapping[str, int] = LABELS, seed: int = 0, **spec: Any) -> Path:
    """Write an untrained model."""
    torch.manual_seed(seed)
    network = {"name": "swin_umamba_d_tiny", "arguments": {"in_channels": 1}}
    described = ModelSpec(**{"name": "tiny", "network": network, "labels": dict(labels), "roi_size": (32, 32), **spec})
    save_model(folder, build_described_network(described), described)
    return folder


def training(
    folder: Path, datalist: Path | None = None, overlays: Sequence[str] = (), **overrides: Any
) -> ConfigWorkflow:
    """Return an initialised training of two iterations that writes into `folder`; overlays are files in `configs/`."""
    paths = {"model_dir": str(folder / "model"), "output_dir": str(folder / "out")}
    if datalist is not None:
        paths["datalist"] = str(datalist)
    workflow = ConfigWorkflow(
        config_file=[str(BUNDLE / "configs" / "train.yaml"), *(str(ROOT / "configs" / name) for name in overlays)],
        workflow_type="train",
        logging_file=False,
        run_id=overrides.pop("run_id", "training"),
        **{**TINY, **paths, **overrides},
    )
    workflow.initialize()
    return workflow


def flags(values: Mapping[str, Any]) -> list[str]:
    """Return overrides as `python -m monai.bundle` takes them."""
    return [text for key, value in values.items() for text in (f"--{key}", str(value))]


def command(*arguments: str, program: tuple[str, ...], **environment: str) -> subprocess.CompletedProcess:
    """Run another program than `run_module` can, from the repository's root."""
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", **environment},
    )
