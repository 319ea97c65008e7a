"""A training for own data: what the images are like, and the settings that follow, with their reasons."""

from __future__ import annotations

from .fingerprint import CaseFingerprint, Fingerprint, fingerprint_dataset
from .memory import TrainingMemory, memory_at_hand, training_memory
from .overlay import write_overlay
from .plan import Setting, plan_training

__all__ = [
    "CaseFingerprint",
    "Fingerprint",
    "Setting",
    "TrainingMemory",
    "fingerprint_dataset",
    "memory_at_hand",
    "plan_training",
    "training_memory",
    "write_overlay",
]
