"""What holds for all tests. Two processes share the machine's cores, so each computes with one thread of PyTorch's."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports PyTorch
