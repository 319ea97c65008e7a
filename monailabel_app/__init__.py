"""MONAI Label app that serves models of the Swin-UMamba bundle: segment, correct, learn from the corrections.

Every model is a folder with `model.pt` and `model.yaml`; what is done with it is defined by the bundle's own configs.
From a checkout nothing needs to be installed: the two packages are found where they lie, here and in the processes that
the server starts.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

for _folder in (str(ROOT / "bundle"), str(ROOT)):
    if _folder not in sys.path:
        sys.path.insert(0, _folder)
    if _folder not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_folder, os.environ.get("PYTHONPATH"))))

# PyTorch's OpenMP threads wait for each other in a busy loop. A server shares its cores with trainings and other work,
# and then most of the time is lost in that loop (measured: a step takes 20 times as long); a short loop loses little.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
