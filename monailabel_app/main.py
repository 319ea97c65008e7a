"""Entry point for MONAI Label: the first class here that derives from MONAILabelApp is the app."""

import sys
from pathlib import Path

_root = str(Path(__file__).resolve().parents[1])
if _root not in sys.path:
    sys.path.insert(0, _root)

from monailabel_app.app import SwinUMambaApp  # noqa: E402

__all__ = ["SwinUMambaApp"]
