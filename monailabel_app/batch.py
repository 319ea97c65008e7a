"""Segmentation of many images, one after the other, that goes on where it was stopped."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from swin_umamba.errors import InputError, input_error_of
from swin_umamba.files import replace_file

from monailabel_app.processes import BUSY, lower_priority
from monailabel_app.versions import ModelStore

logger = logging.getLogger(__name__)

PROGRESS_FILE = "batch.json"
WHICH = ("unlabeled", "labeled", "all")


class BatchSegmentation:
    """Segment images of the data store and keep each label map under the tag "original".

    Images that the served version of the model has segmented already are left as they are, so a batch that was stopped
    goes on where it was. `batch.json` in the data directory tells how far it is.

    Args:
        store: knows which version of a model is served.
        data_dir: of the app.
    """

    def __init__(self, store: ModelStore, data_dir: str | os.PathLike) -> None:
        self.store = store
        self.file = Path(data_dir) / PROGRESS_FILE

    def __call__(
        self, request: Mapping[str, Any], datastore: Datastore, infer: Callable[..., dict[str, Any]]
    ) -> dict[str, Any]:
        """Segment.

        Args:
            request: "model"; "images" ("unlabeled", "labeled", "all", or a list of ids); "max_batch_size", 0 for all;
                "again" to segment what was done before; and options of `SegmentationTask`.
            datastore: of the images.
            infer: of the app.

        Returns:
            "done", "kept" and "failed" {image: why}.

        Raises:
            UnknownModel: for a model that is not installed.
            InputError: for illegal "images".
        """
        lower_priority(BUSY)
        options = {key: value for key, value in request.items() if key not in ("images", "max_batch_size", "again")}
        images, model = self.images(request, datastore), str(request.get("model"))
        state: dict[str, Any] = {"total": len(images), "done": [], "kept": [], "failed": {}, "finished": False}
        for image in images:
            before = datastore.get_label_info(image, "original")
            present = (before.get("model"), before.get("model_version")) == (
                model,
                self.store.served(model).spec.version,
            )
            if present and not request.get("again"):
                state["kept"].append(image)
            else:
                try:
                    result = infer({**options, "image": image, "save_label": True, "label_tag": "original"}, datastore)
                    os.unlink(result["file"])
                    state["done"].append(image)
                except Exception as error:
                    cause = input_error_of(error)
                    if cause is None:
                        logger.exception("%s could not be segmented", image)
                    state["failed"][image] = str(cause or type(error).__name__)
            self._write(state)
            logger.info("%d of %d", len(state["done"]) + len(state["kept"]) + len(state["failed"]), len(images))
        state["finished"] = True
        self._write(state)
        return state

    def progress(self) -> dict[str, Any]:
        """Return how far the present, or the last, batch is."""
        try:
            return json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def _write(self, state: Mapping[str, Any]) -> None:
        with replace_file(self.file) as path:
            path.write_text(json.dumps(state), encoding="utf-8")

    @staticmethod
    def images(request: Mapping[str, Any], datastore: Datastore) -> list[str]:
        """Return which images a request asks for.

        Raises:
            InputError: for illegal "images" or "max_batch_size".
        """
        which = request.get("images", "unlabeled")
        known = {
            "unlabeled": datastore.get_unlabeled_images,
            "labeled": datastore.get_labeled_images,
            "all": datastore.list_images,
        }
        if isinstance(which, list):
            strangers = sorted(set(which) - set(datastore.list_images()))
            if strangers:
                raise InputError(f"images: {strangers[:5]} are not in the data store")
            images = list(which)
        elif str(getattr(which, "value", which)) in WHICH:
            images = sorted(known[str(getattr(which, "value", which))]())
        else:
            raise InputError(f"images {which!r}: legal: {', '.join(WHICH)}, or a list of ids")
        count = request.get("max_batch_size") or 0
        if not isinstance(count, int) or count < 0:
            raise InputError(f"max_batch_size {count!r}: legal: 0 for all, or a whole number")
        return images[:count] if count else images
