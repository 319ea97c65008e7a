"""`python -m swin_umamba.scan` prints which scan backends can run here."""

from __future__ import annotations

import torch

from .backends import available_backends, resolve_backend


def main() -> None:
    """Print one line per backend, then what "auto" takes."""
    for name, status in available_backends().items():
        print(f"{name:<10} {'yes' if status.available else 'no':<4} {status.reason}")
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        print(f"auto on {device}: {resolve_backend('auto', device, torch.float32)}")


if __name__ == "__main__":
    main()
