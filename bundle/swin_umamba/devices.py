"""Which device to run on, and in which precision."""

from __future__ import annotations

import os

import torch

from swin_umamba.errors import InputError

# values of ONEDNN_MAX_CPU_ISA that leave oneDNN its bfloat16 instructions
_ISAS = ("ALL", "DEFAULT", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX512_CORE_AMX_FP16",
         "AVX10_1_512", "AVX10_1_512_AMX", "AVX10_1_512_AMX_FP16")  # fmt: skip


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """Return the device that was asked for, or the best there is.

    Args:
        name: "cpu", "cuda", "cuda:N"; None or "auto" takes the first GPU, or the CPU where there is none.

    Raises:
        InputError: if the name is unknown, or that device is not in this machine.
    """
    legal = ["auto", "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name is None or name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r} is unknown; legal here: {', '.join(legal)}") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {str(name)!r} is not supported; legal here: {', '.join(legal)}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {str(name)!r} is not in this machine; legal here: {', '.join(legal)}")
    return device


def choose_precision(name: str | None, device: torch.device | str, *, inference: bool = False) -> torch.dtype | None:
    """Return the data type of mixed precision, or None for float32 throughout.

    Args:
        name: "bfloat16", "float16", "float32"; None or "auto" takes bfloat16 on a GPU; on a CPU only for inference and
            if the processor multiplies it in hardware, else float32.
        device: that the network runs on.
        inference: the network is run and not trained.

    Raises:
        InputError: for another name.
    """
    if name is None or name == "auto":
        half = torch.device(device).type == "cuda" or (inference and cpu_multiplies_bfloat16())
        return torch.bfloat16 if half else None
    legal = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": None}
    if name not in legal:
        raise InputError(f"precision {name!r} is unknown; legal: auto, {', '.join(legal)}")
    return legal[name]


def cpu_multiplies_bfloat16() -> bool:
    """Whether this processor has fast instructions for products of bfloat16 and PyTorch will use them.

    They are AMX or AVX512-BF16. Without them PyTorch converts to float32 and back, which is slower than float32 itself.
    Intel's processors since Sapphire Rapids, told by AVX512-FP16, have AMX for it and AVX512-BF16 at half the rate of
    float32, so where a virtual machine hides AMX, float32 is the faster. It is read off the hardware and not timed, so
    that a busy machine gives the label maps of an idle one.
    """
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper() not in _ISAS
    wide = torch.backends.cpu.get_cpu_capability().startswith(("AVX512", "AMX"))
    amx = _has("_is_amx_tile_supported")
    fast = amx or (_has("_is_avx512_bf16_supported") and not _multiplies_float16())
    return torch.backends.mkldnn.is_available() and wide and not limited and fast


def _has(check: str) -> bool:
    return bool(getattr(torch.cpu, check, bool)())


def _multiplies_float16() -> bool:
    """Whether the processor has AVX512-FP16; False where PyTorch cannot tell."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_fp16", False))
