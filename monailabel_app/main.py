"""Entry point for MONAI Label: the first class here that derives from MONAILabelApp is the app."""

import os
import sys
from pathlib import Path

_root = Path(__file__).resolve().parents[1]
for _folder in (_root / "bundle", _root):  # from a checkout the packages need no installation
    if str(_folder) not in sys.path and (_folder / "swin_umamba").is_dir() | (_folder / "monailabel_app").is_dir():
        sys.path.insert(0, str(_folder))
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys(
        [str(_root), str(_root / "bundle"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    )
)

from monailabel_app.app import SwinUMambaApp  # noqa: E402

__all__ = ["SwinUMambaApp"]
