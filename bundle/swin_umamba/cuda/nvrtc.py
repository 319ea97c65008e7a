"""NVRTC through ctypes: CUDA C++ in, machine code for one GPU architecture out, kept on disk."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import logging
import os
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from swin_umamba.errors import InputError
from swin_umamba.files import replace_file

logger = logging.getLogger(__name__)
CACHE_VARIABLE = "SWIN_UMAMBA_CACHE"
SOURCES = Path(__file__).resolve().parent
_HEADERS = ("device.cuh", "types.cuh", "scan.cuh")


class CompilationError(RuntimeError):
    """NVRTC is missing or refused a source."""


@cache
def library() -> ctypes.CDLL:
    """Load NVRTC of the CUDA version that PyTorch was built for.

    Raises:
        CompilationError: if it is not there.
    """
    if torch.version.cuda is None:
        raise CompilationError(f"PyTorch {torch.__version__} was built without CUDA")
    major = torch.version.cuda.split(".")[0]
    for name in _candidates(major):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise CompilationError(f"NVRTC {major} is not found; pip install nvidia-cuda-nvrtc")


def _candidates(major: str) -> list[str]:
    """Names and paths that the library may have: loaded by PyTorch, in pip's packages, on the system."""
    if sys.platform == "win32":
        return [str(Path(torch.__file__).parent / "lib" / f"nvrtc64_{major}0_0.dll")]
    name = f"libnvrtc.so.{major}"
    package = importlib.util.find_spec("nvidia")
    folders = [Path(root) for root in (package.submodule_search_locations or [])] if package else []
    parts = (f"cu{major}/lib", "cuda_nvrtc/lib")
    return [str(folder / part / name) for folder in folders for part in parts] + [name]


@cache
def version() -> tuple[int, int]:
    """Return the version of NVRTC."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


@cache
def architectures() -> tuple[int, ...]:
    """Return the architectures that NVRTC compiles for, as compute capability times ten."""
    count = ctypes.c_int()
    _check(library().nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    numbers = (ctypes.c_int * count.value)()
    _check(library().nvrtcGetSupportedArchs(numbers))
    return tuple(numbers)


def cache_folder() -> Path:
    """Return where machine code is kept: SWIN_UMAMBA_CACHE, or swin_umamba in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    root = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swin_umamba"
    return root / "kernels"


def machine_code(file: str, options: Sequence[str], architecture: int) -> bytes:
    """Compile a source of this folder, or read what an earlier process left.

    Args:
        file: name of the source.
        options: of the compiler, such as -DN=16.
        architecture: compute capability times ten, such as 90.

    Raises:
        CompilationError: if NVRTC is missing or refuses the source.
    """
    source = (SOURCES / file).read_text(encoding="utf-8")
    headers = {name: (SOURCES / name).read_text(encoding="utf-8") for name in _HEADERS}
    options = [f"-arch=sm_{architecture}", "-std=c++17", "-default-device", *options]
    text = "\0".join([source, *headers.values(), *options, str(version())])
    kept = cache_folder() / f"{Path(file).stem}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.cubin"
    try:
        return kept.read_bytes()
    except OSError:
        pass
    begun = time.perf_counter()
    logger.info("compiling %s for sm_%d: seconds, once; kept in %s", file, architecture, kept.parent)
    code = compile_source(source, headers, options)
    logger.info("compiled %s in %.1f s", file, time.perf_counter() - begun)
    _keep(kept, code)
    return code


def compile_source(source: str, headers: dict[str, str], options: Sequence[str]) -> bytes:
    """Run NVRTC.

    Raises:
        CompilationError: with the compiler's messages.
    """
    nvrtc, program, count = library(), ctypes.c_void_p(), len(headers)
    texts = (ctypes.c_char_p * count)(*(text.encode() for text in headers.values()))
    names = (ctypes.c_char_p * count)(*(name.encode() for name in headers))
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", count, texts, names))
    try:
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        failed = nvrtc.nvrtcCompileProgram(program, len(options), given)
        if failed:
            raise CompilationError(_text(program, "nvrtcGetProgramLog").decode(errors="replace"))
        return _text(program, "nvrtcGetCUBIN")
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(program: ctypes.c_void_p, getter: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(library(), f"{getter}Size")(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    _check(getattr(library(), getter)(program, text))
    return text.raw


def _check(result: int) -> None:
    if result:
        library().nvrtcGetErrorString.restype = ctypes.c_char_p
        raise CompilationError(f"NVRTC: {library().nvrtcGetErrorString(result).decode()}")


def _keep(path: Path, code: bytes) -> None:
    """Write a file that other processes see whole or not at all; a folder that cannot be written costs time only."""
    try:
        with replace_file(path) as temporary:
            temporary.write_bytes(code)
    except (OSError, InputError) as error:
        logger.warning("kernels are compiled anew in each process: %s", error)
