"""The infer task of a model, as MONAI Label has them."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.utils.others.generic import device_list
from swin_umamba.label_maps import DISCLAIMER

from monailabel_app.segmenter import Segmenter
from monailabel_app.settings import AppSettings
from monailabel_app.versions import ModelStore


class SegmentationTask(Segmenter, InferTask):
    """Segment with the served version of a model, and tell clients what it is.

    Args:
        name: of the model.
        store: knows its versions.
        settings: as of `Segmenter`.
    """

    def __init__(self, name: str, store: ModelStore, settings: AppSettings) -> None:
        Segmenter.__init__(self, name, store, settings)
        spec = store.served(name).spec
        InferTask.__init__(
            self, type=InferType.SEGMENTATION, labels=dict(spec.labels), dimension=3, description=spec.description
        )
        self._config = {"device": device_list(), "largest_component": False, "slices": ""}
        if spec.mirror_axes:
            self._config["mirror"] = False

    def is_valid(self) -> bool:
        """A model that the store does not find is not offered."""
        return self.name in self.store.installed()

    def info(self) -> dict[str, Any]:
        """Return what clients show of the model, with the version that is served now."""
        version = self.store.served(self.name)
        scores = {"training": version.spec.training, "scores": version.spec.scores}
        return {
            **super().info(),
            "description": version.spec.description,
            "version": version.spec.version,
            "licence": version.spec.licence,
            "note": DISCLAIMER,
            **scores,
        }

    def get_path(self, validate: bool = True) -> str:
        """Return the file of the served weights."""
        return str(self.store.served(self.name).folder / "model.pt")
