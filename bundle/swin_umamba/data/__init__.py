"""Data lists, label tables, readers of other layouts, a check of data sets, and generated cases."""

from __future__ import annotations

from .datalist import check_datalist, load_datalist, read_datalist, save_datalist
from .phantom import make_phantom
from .phantom_files import write_phantoms

__all__ = [
    "check_datalist",
    "load_datalist",
    "make_phantom",
    "read_datalist",
    "save_datalist",
    "write_phantoms",
]
