"""The whole network as one ONNX file that runs without this package, without PyTorch, at any batch and image size.

Needs the packages onnx and onnxscript: `pip install swin-umamba-monai[onnx]`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from swin_umamba.errors import InputError
from swin_umamba.files import replace_file
from swin_umamba.models import ModelSpec, build_described_network
from swin_umamba.networks.padding import MULTIPLE
from swin_umamba.scan.backends import BACKEND_VARIABLE
from swin_umamba.scan.onnx_function import DOMAIN, NAME, OPSET, ss2d_function

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT = "image", "pred"
LARGEST_SIDE = 8192  # pixels that the exporter is told; the file itself has no such limit
TOLERANCE = 1e-4  # of logits, absolute and relative
EXAMPLE = (2, 2 * MULTIPLE, 3 * MULTIPLE)  # batch, H, W: all different, none of them 1


def export_onnx(spec: ModelSpec, network: nn.Module, path: str | os.PathLike) -> float:
    """Write a model's network as ONNX, and compare it with PyTorch before the file is there.

    The file takes "image" (B, C, H, W) float32, H and W multiples of 32, z-scored as in `spec`, and gives "pred",
    logits (B, K, H, W).

    Args:
        spec: of the model.
        network: its network with its weights.
        path: of the file; 2 GiB at most, which is no limit for any network of ours.

    Returns:
        The largest difference of a logit between onnxruntime and PyTorch, on two random images of another size.

    Raises:
        InputError: if a package is missing, another scan backend is forced, the network holds an operator that ONNX has
            no equivalent of (U-Mamba's scan), or the two do not agree within 1e-4.
    """
    check_packages()
    forced = os.environ.get(BACKEND_VARIABLE, "")
    if forced not in ("", "auto", "cpu"):
        raise InputError(
            f"{BACKEND_VARIABLE}={forced}: the export goes by the operator of the cpu backend; leave it unset"
        )
    twin = build_described_network(spec, deep_supervision=False, scan_backend="cpu").eval()
    twin.load_state_dict(network.state_dict())
    twin = twin.float().cpu().requires_grad_(False)
    with replace_file(path) as temporary:
        try:
            _write(twin, temporary)
        except torch.onnx.OnnxExporterError as error:
            raise InputError(f"network {spec.network['name']!r} cannot be written as ONNX: {_reason(error)}") from error
        difference = compare(twin, temporary)
    return difference


def check_packages() -> None:
    """Check that what the export needs is installed.

    Raises:
        InputError: naming what is missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX needs {', '.join(missing)}: pip install {' '.join(PACKAGES)}")


def compare(network: nn.Module, path: str | os.PathLike) -> float:
    """Return the largest difference of a logit between a file in onnxruntime and a network.

    Raises:
        InputError: if a difference is larger than 1e-4, beside 1e-4 of the logit.
    """
    image = torch.randn(1, _in_channels(network), 3 * MULTIPLE, MULTIPLE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(image).numpy()
    found = run_onnx(path, image.numpy())
    difference = float(np.abs(found - expected).max())
    if not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
        raise InputError(f"{path} differs from PyTorch by up to {difference:.3g}; legal: {TOLERANCE:g}")
    return difference


def run_onnx(path: str | os.PathLike, image: np.ndarray, threads: int = 0) -> np.ndarray:
    """Run a file in onnxruntime on the CPU.

    Args:
        path: of the file.
        image: (B, C, H, W) float32.
        threads: of the CPU; 0 takes all.

    Returns:
        Logits (B, K, H, W).
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {INPUT: image})[0]


def _write(network: nn.Module, path: Path) -> None:
    """Export: the four-direction scan stays one operator, whose meaning goes into the file as an ONNX function."""
    from onnxscript import ir

    batch, height, width = EXAMPLE
    sides = [MULTIPLE * torch.export.Dim(name, min=1, max=LARGEST_SIDE // MULTIPLE) for name in ("rows", "columns")]
    with _quietly():
        program = torch.onnx.export(
            network,
            (torch.zeros(batch, _in_channels(network), height, width),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1), 2: sides[0], 3: sides[1]},),
            custom_translation_table={torch.ops.swin_umamba.ss2d_scan.default: _translate},
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
        )
    assert program is not None, "dynamo=True gives a program"
    function = ir.serde.deserialize_function(ss2d_function())
    program.model.functions[function.identifier()] = function
    program.model.opset_imports[DOMAIN] = 1
    program.save(path)


def _translate(
    x: Any, project: Any, dt_weight: Any, dt_bias: Any, A_logs: Any, Ds: Any, backend: str, save: bool
) -> Any:
    """Give PyTorch's exporter the ONNX nodes of the operator: y, and what training would save (nothing)."""
    import onnxscript
    from onnx.defs import OpSchema

    formal = [OpSchema.FormalParameter(f"input_{number}", "T") for number in range(6)]
    result = OpSchema.FormalParameter("y", "T")
    schema = OpSchema(
        NAME, DOMAIN, 1, inputs=formal, outputs=[result], type_constraints=[("T", ["tensor(float)"], "float32")]
    )
    call = onnxscript.values.Op(onnxscript.values.Opset(DOMAIN, 1), NAME, schema)
    y = call(x, project, dt_weight, dt_bias, A_logs, Ds)
    return y, onnxscript.opset18.Identity(y)


def _reason(error: BaseException) -> str:
    """Return the first line of what lies at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _in_channels(network: nn.Module) -> int:
    return int(getattr(network, "in_channels", 1))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's progress and its warnings about its own insides from the user."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
