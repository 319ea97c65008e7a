"""Networks on a machine that has no Numba: slower, and right."""

import os
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *others):
        return None if name.split(".")[0] in ("numba", "llvmlite") else self.finder.find_spec(name, *others)

sys.meta_path[:] = map(Without, sys.meta_path)
import torch
from swin_umamba.networks import build_network
from swin_umamba.scan import available_backends

assert not available_backends()["cpu"].available
network = build_network("swin_umamba_tiny", in_channels=1, out_channels=3).eval()
with torch.no_grad():
    print(tuple(network(torch.zeros(1, 1, 40, 33)).shape))
"""


def test_networks_run_without_numba():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "bundle")}
    command = [sys.executable, "-c", _PROGRAM]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[0] == "(1, 3, 40, 33)"
