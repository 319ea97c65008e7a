"""Compile the CUDA sources with the machine's C++ compiler and run their threads on the CPU (emulator.h)."""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import torch
from swin_umamba.cuda.nvrtc import SOURCES
from swin_umamba.scan import cuda_backend
from swin_umamba.scan.backends import BackendStatus

depthwise, instance_norm, layer_norm = (
    import_module(f"swin_umamba.cuda.{name}") for name in ("depthwise", "instance_norm", "layer_norm")
)
HERE = Path(__file__).resolve().parent
COMPILER = shutil.which("g++")
FOLDER = Path(tempfile.gettempdir()) / "swin_umamba_emulation"


class EmulatedKernels:
    """Takes the place of `swin_umamba.cuda.Kernels`."""

    def __init__(self, library: ctypes.CDLL):
        self.library = library

    def __call__(self, name, blocks, threads, arguments, shared=0):
        """Run all blocks, one after the other."""
        places = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        assert getattr(self.library, f"bytes_of_{name}", lambda: shared)() <= shared
        getattr(self.library, f"run_{name}")(blocks, threads, places)


def translate(text: str) -> str:
    """Turn a source into C++ with a function `run_<kernel>` for each kernel."""
    text = text.replace('#include "device.cuh"', "").replace('#include "scan.cuh"', (SOURCES / "scan.cuh").read_text())
    text = text.replace('#include "device.cuh"', "").replace("#pragma once", "")
    text = text.replace('#include "types.cuh"', (SOURCES / "types.cuh").read_text().replace("#pragma once", ""))
    text = text.replace("extern __shared__ float4 memory[];", "float4* memory = emulated_memory;")
    names = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(', text)
    runs = [
        f'extern "C" void run_{name}(int blocks, int threads, void** given) '
        f"{{ run_grid([](void** args) {{ call({name}, args); }}, blocks, threads, given); }}"
        for name in names
    ]
    if "struct Shared {" in text:
        runs.append('extern "C" int bytes_of_scan_backward() { return sizeof(Shared); }')
    return "\n".join(['#include "emulator.h"', text, *runs])


@cache
def _loaded(file: str, options: tuple[str, ...]) -> EmulatedKernels:
    source = translate((SOURCES / file).read_text())
    key = hashlib.sha256("\0".join([source, (HERE / "emulator.h").read_text(), *options]).encode()).hexdigest()[:24]
    FOLDER.mkdir(exist_ok=True)
    library = FOLDER / f"{key}.so"
    if not library.exists():
        (FOLDER / f"{key}.cpp").write_text(source)
        target = FOLDER / f"{key}.part"
        flags = ["-std=c++17", "-O1", "-w", "-shared", "-fPIC", f"-I{HERE}", *options]
        command = [str(COMPILER), *flags, str(FOLDER / f"{key}.cpp"), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:4000]
        target.rename(library)
    return EmulatedKernels(ctypes.CDLL(str(library)))


def emulate(monkeypatch, cores: int = 2) -> None:
    """Run every kernel on the CPU for the rest of a test, on a GPU that would have `cores` multiprocessors."""
    if COMPILER is None:
        pytest.skip("no g++ to emulate CUDA with")
    for module in (depthwise, instance_norm, layer_norm):
        monkeypatch.setattr(module, "takes", lambda x: True)
        monkeypatch.setattr(module, "cores_of", lambda device: cores)
        monkeypatch.setattr(module, "load_kernels", load_emulated)
    monkeypatch.setattr(cuda_backend, "cores_of", lambda device: cores)
    monkeypatch.setattr(cuda_backend, "load_kernels", load_emulated)
    monkeypatch.setattr(cuda_backend, "status", lambda: BackendStatus(True, "emulated"))
    monkeypatch.setattr(cuda_backend, "refusal", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())


def load_emulated(file, device, **definitions):
    """Take the place of `swin_umamba.cuda.load_kernels`."""
    return _loaded(file, tuple(f"-D{k}={int(v) if isinstance(v, bool) else v}" for k, v in definitions.items()))
