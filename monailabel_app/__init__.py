"""MONAI Label app that serves models of the Swin-UMamba bundle: segment, correct, learn from the corrections.

Every model is a folder with `model.pt` and `model.yaml`; what is done with it is defined by the bundle's own configs.
"""

import os

# PyTorch's OpenMP threads wait for each other in a busy loop. A server shares its cores with trainings and other work,
# and then most of the time is lost in that loop (measured: a step takes 20 times as long); a short loop loses little.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
