"""Models and trainings in the words of the viewer's panel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swin_umamba.data.labels import organ_colour, organ_name
from swin_umamba.models import ModelSpec

from monailabel_app import processes
from monailabel_app.train import FineTuneTask
from monailabel_app.versions import ModelStore


def segments_of(spec: ModelSpec) -> list[dict[str, Any]]:
    """Return "id", "name" and "color" (red, green, blue, 0 to 255) of each organ of a model."""
    return [
        {"id": number, "name": organ, "color": list(organ_colour(organ_name(organ)))}
        for organ, number in spec.labels.items()
    ]


def about_model(name: str, store: ModelStore) -> dict[str, Any]:
    """Return what a model is, its organs, and "waits": the latest version if it was learnt and is not served, or None.

    That has its "version" and "dice", {"new", "served"} on the held-out patients, or None if there are none.
    """
    spec, last = store.served(name).spec, store.versions(name)[-1]
    waits = None if last["served"] else {"version": last["version"], "dice": last.get("dice")}
    about = {"name": name, "version": spec.version, "description": spec.description, "licence": spec.licence}
    return {**about, "waits": waits, "segments": segments_of(spec)}


def about_training(trainers: Mapping[str, FineTuneTask]) -> dict[str, Any]:
    """Return whether a training runs, of which model, how far the present or the last one is, and why that failed."""
    running = processes.alive("train")
    model = running[0]["request"].get("model") if running else None
    stats = {name: trainer.stats() for name, trainer in trainers.items()}
    return {"running": bool(running), "model": model, "progress": stats, "failed": processes.failure("train")}
