"""Triton kernels without a GPU: interpreted on the CPU, and compiled for one that need not be there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton", reason="the triton backend needs Triton")
TESTS = Path(__file__).resolve().parents[1]


def test_interpreted_kernels_agree_with_the_fixtures_and_the_plain_scan():
    path = os.pathsep.join([str(TESTS.parent / "bundle"), str(TESTS)])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path, "SWIN_UMAMBA_SCAN_BACKEND": ""}
    command = [sys.executable, "-W", "error::RuntimeWarning", str(TESTS / "scan" / "interpret_triton.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["sequences", "maps", "half", "auto"]


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="an interpreted kernel is not compiled")
@pytest.mark.parametrize("half", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("kernel", ["local_states", "forward", "local_gradients", "backward"])
def test_kernels_compile_for_hopper(kernel, half):
    from swin_umamba.scan import triton_kernels
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(triton_kernels, kernel)
    constants = {"N": 16, "BLOCK": 32, "SHARED": True, "ACTIVATE": True, "CHUNK": 16, "SAVE": True}
    constants = {name: value for name, value in constants.items() if name in function.arg_names}
    floats = ["weights", "ends", "rates", "added", "elapsed", "y", "saved", "histories"]
    pointers = dict.fromkeys([*floats, "gu", "gweights", "grates", "gends"], "*fp32")
    pointers |= dict.fromkeys(["u", "gy", "raw", "gsteps"], f"*{half}") | {"order": "*i32"}
    signature = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in function.arg_names}
    source = ASTSource(function, signature, {(function.arg_names.index(k),): v for k, v in constants.items()}, {})
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1})
    assert "ex2.approx" in compiled.asm["ptx"]
    assert compiled.asm["cubin"]


def test_refuses_double_precision_with_a_reason():
    from swin_umamba.scan.triton_backend import interpreted, refusal

    reason = refusal("cpu" if interpreted() else "cuda", torch.float64)
    assert reason == "triton scans float32, float16 and bfloat16"
