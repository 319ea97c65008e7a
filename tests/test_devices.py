"""Devices and precisions by name."""

from __future__ import annotations

import pytest
import torch
from swin_umamba.devices import choose_device, choose_precision
from swin_umamba.errors import InputError


def test_auto_takes_what_is_there():
    expected = "cuda:0" if torch.cuda.is_available() else "cpu"
    assert choose_device() == choose_device("auto") == torch.device(expected)


def test_cpu_is_always_there():
    assert choose_device("cpu") == torch.device("cpu")


def test_cuda_asked_for_and_absent(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match="device 'cuda:1' is not in this machine; legal here: auto, cpu"):
        choose_device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:x"])
def test_unknown_device(name):
    with pytest.raises(InputError, match=f"device '{name}' is"):
        choose_device(name)


def test_precision():
    assert choose_precision("auto", "cpu") is None
    assert choose_precision("float32", "cpu", inference=True) is None
    assert choose_precision(None, "cuda:0") is torch.bfloat16
    assert choose_precision("float16", "cpu") is torch.float16
    assert choose_precision("float32", "cuda:0") is None
    with pytest.raises(InputError, match="precision 'half' is unknown; legal: auto, bfloat16, float16, float32"):
        choose_precision("half", "cpu")


@pytest.mark.parametrize(
    ("bf16", "fp16", "amx", "capability", "limit", "expected"),
    [
        (True, False, False, "AVX512", None, torch.bfloat16),
        (True, True, True, "AVX512", None, torch.bfloat16),
        (True, True, False, "AVX512", None, None),  # a virtual machine hides AMX: half the rate of float32
        (False, False, True, "AVX512", "ALL", torch.bfloat16),
        (False, False, False, "AVX512", None, None),
        (True, False, False, "AVX2", None, None),  # PyTorch was told to do without, ATEN_CPU_CAPABILITY
        (True, False, False, "AVX512", "AVX2", None),
        (True, False, False, "AVX512", "avx512_core_bf16", torch.bfloat16),
    ],
)
def test_a_cpu_infers_in_bfloat16_where_it_multiplies_it_fast(
    monkeypatch, bf16, fp16, amx, capability, limit, expected
):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_fp16": fp16}, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert choose_precision("auto", "cpu", inference=True) is expected
    assert choose_precision("auto", "cpu") is None  # training
