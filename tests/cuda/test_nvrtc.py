"""Machine code is compiled once, kept on disk, and a missing compiler is told in one line."""

from __future__ import annotations

import logging

import pytest
import torch
from swin_umamba.cuda import nvrtc


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Replace NVRTC by a function that notes what it was given."""
    calls: list[tuple] = []

    def compile_source(source, headers, options):
        calls.append((source, tuple(headers), tuple(options)))
        return b"machine code"

    monkeypatch.setenv("SWIN_UMAMBA_CACHE", str(tmp_path))
    monkeypatch.setattr(nvrtc, "version", lambda: (13, 0))
    monkeypatch.setattr(nvrtc, "compile_source", compile_source)
    return calls


def test_code_is_compiled_once_and_kept(compiled, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(2):
        assert nvrtc.machine_code("merge.cu", ["-DVALUE=f16"], 90) == b"machine code"
    assert len(compiled) == 1
    assert "-arch=sm_90" in compiled[0][2]
    assert "compiling merge.cu for sm_90" in caplog.text
    assert [path.read_bytes() for path in (tmp_path / "kernels").iterdir()] == [b"machine code"]


@pytest.mark.parametrize("changed", [("merge.cu", ["-DVALUE=bf16"], 90), ("merge.cu", ["-DVALUE=f16"], 80)])
def test_other_options_and_gpus_get_code_of_their_own(changed, compiled):
    nvrtc.machine_code("merge.cu", ["-DVALUE=f16"], 90)
    nvrtc.machine_code(*changed)
    assert len(compiled) == 2


def test_a_folder_that_cannot_be_written_costs_only_time(compiled, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SWIN_UMAMBA_CACHE", str(tmp_path / "file"))
    assert nvrtc.machine_code("merge.cu", [], 90) == b"machine code"
    assert "compiled anew in each process" in caplog.text


def test_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "99.0")
    nvrtc.library.cache_clear()
    with pytest.raises(nvrtc.CompilationError, match="NVRTC 99 is not found; pip install nvidia-cuda-nvrtc"):
        nvrtc.library()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(nvrtc.CompilationError, match="built without CUDA"):
        nvrtc.library()
    nvrtc.library.cache_clear()
