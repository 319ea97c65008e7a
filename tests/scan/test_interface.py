"""The operators as PyTorch's compilers see them, the choice of a backend, and what is said of wrong input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scan.cases import FAST_TARGETS, assert_close, map_inputs, sequence_inputs, skip_unless
from swin_umamba.errors import InputError
from swin_umamba.scan import (
    available_backends,
    backend_names,
    resolve_backend,
    selective_scan,
    selective_scan_reference,
    ss2d_scan,
    ss2d_scan_reference,
)  # fmt: skip
from torch import nn

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


class Scan(nn.Module):
    """A module around the scan, as a network has it."""

    def __init__(self, backend: str):
        super().__init__()
        _, *weights = map_inputs(1, 1, 1, 8, 2, 4, dtype=torch.float32)
        self.weights = nn.ParameterList([weight.detach() for weight in weights])
        self.backend = backend

    def forward(self, x):
        """(B, H, W, 8) -> (B, H, W, 8)."""
        weights = [self.weights[index] for index in range(5)]  # torch 2.11 cannot trace a starred ParameterList
        return torch.sin(ss2d_scan(x * 2, *weights, backend=self.backend))


@pytest.mark.parametrize(("backend", "device"), [t for t in FAST_TARGETS if t.values[0] != "mamba_ssm"])
def test_operators_are_well_formed(backend, device):
    skip_unless(backend, device, torch.float32)
    dtype = torch.float32 if device == "cuda" else torch.float64
    tensors = map_inputs(1, 3, 4, 8, 2, 3, dtype=dtype, device=device)
    torch.library.opcheck(torch.ops.swin_umamba.ss2d_scan.default, (*tensors, backend, True))
    tensors = sequence_inputs(1, 8, 5, 2, 3, dtype=dtype, device=device)
    torch.library.opcheck(torch.ops.swin_umamba.selective_scan.default, (*tensors, True, backend, True))
    tensors[5] = None
    torch.library.opcheck(torch.ops.swin_umamba.selective_scan.default, (*tensors, False, backend, True))


@pytest.mark.parametrize("backend", ["auto", "cpu", "reference"])
def test_compiles_as_one_graph(backend):
    skip_unless("cpu", "cpu", torch.float32)
    module = Scan(backend)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 4, 8)
    assert_close([compiled(x)], [module(x)], 1e-6)
    module(x).square().sum().backward()
    expected = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    compiled(x).square().sum().backward()
    assert_close([p.grad for p in module.parameters()], expected, 1e-6)


def test_compiled_backend_is_one_node_of_an_exported_graph():
    skip_unless("cpu", "cpu", torch.float32)
    module, x = Scan("cpu"), torch.randn(2, 3, 4, 8)
    exported = torch.export.export(module, (x,))
    calls = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert sum("swin_umamba.ss2d_scan" in call for call in calls) == 1
    assert_close([exported.module()(x)], [module(x)], 1e-6)


def test_plain_scan_is_scriptable_and_exportable():
    tensors = [t.detach() for t in map_inputs(2, 7, 5, 12, 2, 4, dtype=torch.float32)]
    expected = ss2d_scan_reference(*tensors)
    # scripted, the steps are taken in order instead of in chunks: the same sums, rounded differently
    assert_close([torch.jit.script(ss2d_scan_reference)(*tensors)], [expected], 1e-6)
    weights = tensors[1:]

    class Plain(nn.Module):
        def forward(self, x):
            return ss2d_scan_reference(x, *weights)

    assert_close([torch.export.export(Plain(), (tensors[0],)).module()(tensors[0])], [expected], 1e-6)
    sequences = [t.detach() for t in sequence_inputs(1, 6, 40, 2, 3, dtype=torch.float32)]
    scripted = torch.jit.script(selective_scan_reference)
    assert_close([scripted(*sequences, True)], [selective_scan_reference(*sequences, True)], 1e-6)


def test_every_backend_tells_whether_it_can_run():
    backends = available_backends()
    assert set(backends) == set(backend_names()) - {"auto"}
    assert backends["reference"].available
    assert all(status.reason for status in backends.values())


def test_auto_takes_a_backend_that_can_run():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert resolve_backend("auto", "cpu", dtype) == (
            "cpu" if available_backends()["cpu"].available else "reference"
        )


def test_environment_variable_forces_a_backend(monkeypatch):
    monkeypatch.setenv("SWIN_UMAMBA_SCAN_BACKEND", "reference")
    assert resolve_backend("cpu", "cpu", torch.float32) == "reference"
    monkeypatch.setenv("SWIN_UMAMBA_SCAN_BACKEND", "tirton")
    with pytest.raises(
        InputError, match="SWIN_UMAMBA_SCAN_BACKEND=tirton.*auto, cpu, cuda, triton, mamba_ssm, reference"
    ):
        resolve_backend("cpu", "cpu", torch.float32)


@pytest.mark.parametrize("backend", ["cuda", "triton", "mamba_ssm"])
def test_a_backend_that_cannot_run_says_what_would_make_it_run(backend):
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1 lets triton run on the CPU")
    tensors = map_inputs(1, 2, 2, 4, 1, 2, dtype=torch.float32)
    with pytest.raises(
        InputError, match=r"cannot scan torch.float32 on cpu: .*(GPU|install).*able here: auto, .*reference"
    ):
        ss2d_scan(*tensors, backend=backend)


def test_unknown_backend_is_refused_with_the_legal_names():
    tensors = map_inputs(1, 2, 2, 4, 1, 2, dtype=torch.float32)
    with pytest.raises(InputError, match="backend='fast': unknown scan backend; legal names are auto, cpu"):
        ss2d_scan(*tensors, backend="fast")


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (0, (2, 3, 4), r"x has shape \(2, 3, 4\), expected \(batch, H, W, D\)"),
        (1, (4, 9, 8), r"x_proj_weight has shape \(4, 9, 8\), expected \(4, 10, 8\)"),
        (2, (4, 7, 2), r"dt_projs_weight has shape \(4, 7, 2\), expected \(4, 8, 2\)"),
        (3, (4, 1), r"dt_projs_bias has shape \(4, 1\), expected \(4, 8\)"),
        (4, (8, 4), r"A_logs has shape \(8, 4\), expected \(32, 4\)"),
        (5, (8,), r"Ds has shape \(8,\), expected \(32,\)"),
    ],
)
def test_maps_of_a_wrong_shape_are_named(index, shape, message):
    tensors = map_inputs(1, 3, 2, 8, 2, 4, dtype=torch.float32)
    tensors[index] = torch.zeros(shape)
    with pytest.raises(InputError, match=message):
        ss2d_scan(*tensors)


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (0, (1, 6), r"u has shape \(1, 6\), expected \(batch, D, L\)"),
        (1, (1, 6, 4), r"delta has shape \(1, 6, 4\), expected \(1, 6, 5\)"),
        (2, (6,), r"A has shape \(6,\), expected \(D, N\)"),
        (3, (1, 4, 3, 5), "B has 4 groups, which do not divide the 6 channels"),
        (4, (1, 3, 5), r"C has shape \(1, 3, 5\), expected \(1, 2, 3, 5\)"),
        (5, (5,), r"D has shape \(5,\), expected \(6,\)"),
    ],
)
def test_sequences_of_a_wrong_shape_are_named(index, shape, message):
    tensors = sequence_inputs(1, 6, 5, 2, 3, dtype=torch.float32)
    tensors[index] = torch.zeros(shape)
    with pytest.raises(InputError, match=message):
        selective_scan(*tensors)


def test_command_prints_a_table():
    environment = {**os.environ, "PYTHONPATH": str(BUNDLE)}
    command = [sys.executable, "-m", "swin_umamba.scan"]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in printed.splitlines()[:5]] == ["cpu", "cuda", "triton", "mamba_ssm", "reference"]
    assert "auto on cpu: " in printed


def test_compiles_as_one_graph_under_autocast():
    skip_unless("cpu", "cpu", torch.float32)
    module = Scan("auto")
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 4, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close([compiled(x)], [module(x)], 1e-6)
