"""Selective scan: one interface, several backends.

`selective_scan` runs sequences, `ss2d_scan` the four traversals of a map; `available_backends` says what can run here.
"""

from __future__ import annotations

from .backends import BackendStatus, available_backends, backend_names, resolve_backend
from .interface import selective_scan, ss2d_scan
from .reference import selective_scan_reference, ss2d_scan_reference

__all__ = [
    "BackendStatus",
    "available_backends",
    "backend_names",
    "resolve_backend",
    "selective_scan",
    "selective_scan_reference",
    "ss2d_scan",
    "ss2d_scan_reference",
]
