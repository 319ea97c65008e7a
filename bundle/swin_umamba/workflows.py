"""Running the bundle's own configs from Python."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from swin_umamba.distributed import is_rank_zero, together, wait_for_all
from swin_umamba.errors import InputError


def run_workflow(
    names: list[str], *, bundle_root: str | os.PathLike, kind: str = "infer", **overrides: Any
) -> ConfigWorkflow:
    """Run configs of a bundle in this process and return the finished workflow.

    Args:
        names: files in `<bundle_root>/configs`, or absolute paths; later ones are laid over earlier ones.
        bundle_root: folder of the bundle.
        kind: "train" or "infer".
        overrides: values of the configs, by key.

    Raises:
        InputError: if a config is missing.
    """
    configs = [Path(bundle_root) / "configs" / name for name in names]
    for config in configs:
        if not config.is_file():
            raise InputError(f"{config} is missing: bundle_root {str(bundle_root)!r} is not the folder of the bundle")
    workflow = ConfigWorkflow(
        config_file=[str(config) for config in configs],
        logging_file=False,  # the caller's logging stays
        workflow_type=kind,
        run_id="run",
        **{"bundle_root": str(bundle_root), **overrides},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def evaluate_model(
    *,
    bundle_root: str | os.PathLike,
    model: str | os.PathLike,
    datalist: str | os.PathLike,
    output_dir: str | os.PathLike,
    section: str = "test",
    **overrides: Any,
) -> dict[str, Any]:
    """Score a model on one section of a data list, as `evaluate.yaml` does.

    Args:
        bundle_root: folder of the bundle.
        model: folder of the model.
        datalist: JSON file.
        output_dir: gets the metrics, label maps and pictures.
        section: "training", "validation" or "test".
        overrides: further values of the config, by key.

    Returns:
        What `metrics.json` holds; of several processes, which share out the cases, only in the first.
    """
    wait_for_all()  # the model is written by one of them
    several = ["multi_gpu_evaluate.yaml"] if together() else []
    run_workflow(
        ["inference.yaml", "evaluate.yaml", *several],
        bundle_root=bundle_root,
        model=str(model),
        datalist=str(datalist),
        section=section,
        output_dir=str(output_dir),
        **overrides,
    )
    return json.loads((Path(output_dir) / "metrics.json").read_text(encoding="utf-8")) if is_rank_zero() else {}


def say_what_is_next(*, bundle_root: str, model: str, output_dir: str, evaluated: bool) -> None:
    """Print where a training left its results and which commands come next."""
    lines = [f"model:      {os.path.join(model, 'model.pt')}, described by model.yaml beside it"]
    if evaluated:
        lines += [
            f"scores:     {os.path.join(output_dir, 'metrics.json')}, metrics.csv, metrics.png",
            f"pictures:   {os.path.join(output_dir, '*_overlay.png')}",
        ]
    command = f"python -m monai.bundle run --config_file {os.path.join(bundle_root, 'configs', 'inference.yaml')}"
    lines += [
        "segment your own images (a file or a folder):",
        f"  {command} --bundle_root {bundle_root} --model {model} --dataset_dir IMAGES --output_dir RESULTS",
    ]
    print("\n".join(lines), flush=True)
