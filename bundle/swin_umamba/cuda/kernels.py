"""Compiled kernels on a GPU: load them once for each device, launch them on PyTorch's stream."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .nvrtc import CompilationError, architectures, machine_code

OLDEST = (7, 0)
_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_STATIC_LIMIT = 48 * 1024
_PROBE = ("-DVALUE=float", "-DPART=float", "-DPACKED=float", "-DWHOLE=1", "-DPACKED_WHOLE=1")  # a small, real kernel
_NAMES = {torch.float32: "float", torch.float16: "f16", torch.bfloat16: "bf16"}


def value_name(dtype: torch.dtype) -> str:
    """Return what the sources call a type."""
    return _NAMES[dtype]


def pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    """Return a tensor as a kernel's argument; None and empty tensors are null."""
    return ctypes.c_void_p(tensor.data_ptr() if tensor is not None and tensor.numel() else None)


@cache
def why_unavailable() -> str | None:
    """Return why kernels cannot be compiled and run here, or None if they can."""
    if not torch.cuda.is_available():
        return "needs a CUDA GPU, PyTorch sees none"
    if torch.version.hip is not None:
        return "needs an NVIDIA GPU, this PyTorch is made for AMD's"
    try:
        known = architectures()
        _driver()
    except (CompilationError, OSError) as error:
        return str(error)
    for device in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(device)
        if (major, minor) < OLDEST or 10 * major + minor not in known:
            name = f"{torch.cuda.get_device_name(device)} has {major}.{minor}"
            return f"needs compute capability {OLDEST[0]}.{OLDEST[1]} to {max(known) / 10}, {name}"
        try:
            machine_code("merge.cu", _PROBE, 10 * major + minor)
        except CompilationError as error:
            return f"NVRTC cannot compile the kernels: {str(error).splitlines()[0]}"
    return None


class Kernels:
    """The kernels of one source, compiled with one set of definitions and loaded on one GPU.

    Args:
        file: name of the source in this folder.
        definitions: macros that the source asks for.
        device: index of the GPU.

    Raises:
        swin_umamba.cuda.nvrtc.CompilationError: if NVRTC refuses the source.
    """

    def __init__(self, file: str, definitions: Mapping[str, Any], device: int) -> None:
        major, minor = torch.cuda.get_device_capability(device)
        options = [
            f"-D{name}={int(value) if isinstance(value, bool) else value}" for name, value in definitions.items()
        ]
        code = machine_code(file, options, 10 * major + minor)
        self._module = ctypes.c_void_p()
        self._functions: dict[str, ctypes.c_void_p] = {}
        with torch.cuda.device(device):
            torch.cuda.current_stream().synchronize()  # makes PyTorch's context the current one
            _check(_driver().cuModuleLoadData(ctypes.byref(self._module), code))

    def __call__(self, name: str, blocks: int, threads: int, arguments: Sequence[Any], shared: int = 0) -> None:
        """Launch a kernel on the current stream.

        Args:
            name: of the kernel.
            blocks: of the grid.
            threads: of a block.
            arguments: ctypes values, as the kernel takes them.
            shared: bytes of dynamic shared memory.
        """
        places = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        function = self._function(name, shared)
        _check(_driver().cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, shared, stream, places, None))

    def _function(self, name: str, shared: int) -> ctypes.c_void_p:
        if name not in self._functions:
            function = ctypes.c_void_p()
            _check(_driver().cuModuleGetFunction(ctypes.byref(function), self._module, name.encode()))
            if shared > _STATIC_LIMIT:
                _check(_driver().cuFuncSetAttribute(function, _DYNAMIC_SHARED, shared))
            self._functions[name] = function
        return self._functions[name]


@cache
def _loaded(file: str, definitions: tuple[tuple[str, Any], ...], device: int) -> Kernels:
    return Kernels(file, dict(definitions), device)


def load_kernels(file: str, device: torch.device, **definitions: Any) -> Kernels:
    """Return the kernels of a source for these definitions on a GPU; compiled, loaded and kept at the first call."""
    index = device.index if device.index is not None else torch.cuda.current_device()
    return _loaded(file, tuple(definitions.items()), index)


def takes(x: Tensor) -> bool:
    """Whether kernels here can read a tensor: on a GPU that they run on, float32 or half precision, not empty."""
    return x.is_cuda and x.dtype in _NAMES and x.numel() > 0 and _available()


@torch.compiler.assume_constant_result
def _available() -> bool:
    return why_unavailable() is None


@cache
def cores_of(device: torch.device) -> int:
    """Return the number of multiprocessors of a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def _check(result: int) -> None:
    if result:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(result, ctypes.byref(text))
        raise RuntimeError(f"CUDA driver: {(text.value or b'unknown error').decode()} ({result})")
