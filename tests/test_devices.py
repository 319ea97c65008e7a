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
    assert choose_precision(None, "cuda:0") is torch.bfloat16
    assert choose_precision("float16", "cpu") is torch.float16
    assert choose_precision("float32", "cuda:0") is None
    with pytest.raises(InputError, match="precision 'half' is unknown; legal: auto, bfloat16, float16, float32"):
        choose_precision("half", "cpu")
