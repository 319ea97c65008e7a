"""How the mamba_ssm backend finds its function; its numbers are checked on a GPU by the other tests."""

from __future__ import annotations

import sys

import pytest
import torch
from scan.cases import assert_close, map_inputs, sequence_inputs
from swin_umamba.scan import mamba, selective_scan_reference, ss2d_scan_reference

STAND_IN = """
from swin_umamba.scan import selective_scan_reference
def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    assert u.dtype == delta.dtype == B.dtype and u.is_contiguous()
    return selective_scan_reference(u, delta, A, B, C, D, delta_bias, delta_softplus)
"""


@pytest.fixture
def forget():
    """Look for the package anew in this test and after it."""
    caches = (mamba._scan_function, mamba.status)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "mamba_ssm"]:
        del sys.modules[name]


@pytest.fixture
def installed(tmp_path, monkeypatch, forget):
    """A package whose own __init__ must not run, with a plain scan in place of its CUDA one."""
    if "mamba_ssm" in sys.modules:
        pytest.skip("the real mamba_ssm is loaded")
    (tmp_path / "mamba_ssm" / "ops").mkdir(parents=True)
    (tmp_path / "mamba_ssm" / "__init__.py").write_text("raise ImportError('language models wanted')")
    (tmp_path / "mamba_ssm" / "ops" / "__init__.py").write_text("")
    (tmp_path / "mamba_ssm" / "ops" / "selective_scan_interface.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_loads_only_the_module_that_holds_the_scan(installed):
    assert mamba.status().available
    assert "mamba_ssm" not in sys.modules


def test_calls_it_with_the_meaning_of_the_plain_scan(installed):
    tensors = map_inputs(2, 3, 5, 8, 2, 4, dtype=torch.float32)
    assert_close([mamba.ss2d_scan(*tensors)], [ss2d_scan_reference(*tensors)], 1e-6)
    tensors = sequence_inputs(2, 6, 9, 2, 3, dtype=torch.float32)
    assert_close([mamba.selective_scan(*tensors, True)], [selective_scan_reference(*tensors, True)], 1e-6)


def test_a_package_that_does_not_load_is_reported(installed, tmp_path):
    (tmp_path / "mamba_ssm" / "ops" / "selective_scan_interface.py").write_text("import no_such_cuda_library")
    status = mamba.status()
    assert not status.available
    assert "no_such_cuda_library" in status.reason
    assert "pip install mamba-ssm" in status.reason
