"""The bundle with one model as a zip that is valid anywhere."""

from __future__ import annotations

from .bundle import EXTRAS, Packed, describe_bundle, pack, training_overlay

__all__ = ["EXTRAS", "Packed", "describe_bundle", "pack", "training_overlay"]
