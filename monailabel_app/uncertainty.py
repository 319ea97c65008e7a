"""How sure the served model is of each image, worked out in the background for the strategy of that name."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from swin_umamba.files import replace_file
from torch import Tensor, nn

from monailabel_app.infer import SegmentationTask
from monailabel_app.processes import IDLE, alive, lower_priority, start, tasks
from monailabel_app.segmenter import find_image

logger = logging.getLogger(__name__)

METHOD = "uncertainty"
FILE = "uncertainty.json"
SLICES = 24  # of an image that are looked at, evenly spread; more hardly changes the order of images
CERTAIN = 0.95  # a pixel that is background with this probability tells nothing about organs
PERIOD, PERIOD_AFTER_FAILURE = 10.0, 300.0  # seconds between looks for images that are not known yet


class EntropyProbe(nn.Module):
    """A segmentation network that remembers how spread its probabilities were.

    Args:
        network: gives logits (N, K, x, y) of slices, class 0 for the background.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.total, self.pixels = 0.0, 0

    def forward(self, slices: Tensor) -> Tensor:
        """Return the network's logits."""
        logits = self.network(slices)
        probabilities = logits.float().softmax(dim=1)  # (N, K, x, y)
        entropy = torch.special.entr(probabilities).sum(dim=1) / math.log(logits.shape[1])  # (N, x, y), 0 to 1
        doubtful = probabilities[:, 0] < CERTAIN
        self.total += float(entropy[doubtful].sum())
        self.pixels += int(doubtful.sum())
        return logits

    @property
    def uncertainty(self) -> float:
        """Mean entropy, 0 (sure) to 1, of the pixels that may be organ; 1 when there are none at all."""
        return self.total / self.pixels if self.pixels else 1.0


class Uncertainties:
    """What is known: a file {image: [uncertainty, or null for one that cannot be read, version of the model]}.

    Args:
        data_dir: of the app.
    """

    def __init__(self, data_dir: str | os.PathLike) -> None:
        self.file = Path(data_dir) / FILE
        self._read: tuple[int, dict[str, tuple[float | None, str]]] = (-1, {})

    def known(self) -> dict[str, tuple[float | None, str]]:
        """Return {image: (uncertainty, version)}; empty if there is no such file, or one that cannot be read."""
        try:
            changed = self.file.stat().st_mtime_ns
            if changed != self._read[0]:
                plain = json.loads(self.file.read_text(encoding="utf-8"))
                self._read = (changed, {image: (value, str(version)) for image, (value, version) in plain.items()})
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError):
            logger.warning("%s cannot be read; it is made anew", self.file.name)
            return {}
        return self._read[1]

    def put(self, image: str, value: float | None, version: str) -> None:
        """Add what was found; one process does that."""
        with replace_file(self.file) as path:
            path.write_text(json.dumps({**self.known(), image: (value, version)}), encoding="utf-8")

    def pending(self, images: Iterable[str], version: str) -> list[str]:
        """Return the images that this version has not seen, those that none has seen first, by name."""
        known = self.known()
        unseen = [image for image in images if known.get(image, (None, ""))[1] != version]
        return sorted(unseen, key=lambda image: (image in known, image))


class UncertaintyScoring(ScoringMethod):
    """Look at every unlabelled image once with the served version of a model, in a process of lowest priority.

    Args:
        task: segments with that model.
        table: gets what is found.
    """

    def __init__(self, task: SegmentationTask, table: Uncertainties) -> None:
        super().__init__(f"How unsure {task.name} is of each unlabelled image")
        self.task, self.table = task, table

    def info(self) -> dict[str, Any]:
        """Return what clients show."""
        version = self._version()
        known = sum(seen == version for _, seen in self.table.known().values())
        return {**super().info(), "model": self.task.name, "model_version": version, "images": known}

    def pending(self, datastore: Datastore) -> list[str]:
        """Return the images that wait."""
        return self.table.pending(datastore.get_unlabeled_images(), self._version())

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Work until no image waits; labels, images and versions that come meanwhile count."""
        lower_priority(IDLE)
        torch.set_num_threads(1)
        done = 0
        while waiting := self.pending(datastore):
            image, version = waiting[0], self._version()
            try:
                value = round(self._uncertainty(datastore.get_image_uri(image)), 6)
            except Exception:
                logger.exception("an image could not be looked at")
                value = None
            self.table.put(image, value, version)
            done += 1
        return {"done": done}

    def _uncertainty(self, file: str) -> float:
        parser = self.task.pipeline(self.task.store.served(self.task.name))
        preprocessing, inferer, network = (
            parser.get_parsed_content(key) for key in ("preprocessing", "inferer", "network_def")
        )
        image = preprocessing({"image": find_image(file)})["image"]  # (1, X, Y, Z)
        step = math.ceil(image.shape[-1] / SLICES)
        probe = EntropyProbe(network)
        inferer(image[None, ..., step // 2 :: step], probe)
        return probe.uncertainty

    def _version(self) -> str:
        return self.task.store.served(self.task.name).spec.version


class Background(threading.Thread):
    """Start the scoring whenever images wait and nothing of it runs.

    Args:
        scoring: to be run.
        datastore: gives the data store.
    """

    def __init__(self, scoring: UncertaintyScoring, datastore: Callable[[], Datastore]) -> None:
        super().__init__(name="uncertainty", daemon=True)
        self.scoring, self.datastore = scoring, datastore

    def run(self) -> None:
        """Look again and again."""
        while True:
            time.sleep(self.look())

    def look(self) -> float:
        """Start a process if one is wanted; returns the seconds until the next look."""
        last = (tasks("scoring") or [{}])[-1]
        try:
            if not alive("scoring") and self.scoring.pending(self.datastore()):
                start("scoring", {"method": METHOD})
        except Exception:
            logger.exception("uncertainties cannot be worked out")
            return PERIOD_AFTER_FAILURE
        return PERIOD_AFTER_FAILURE if last.get("status") == "ERROR" else PERIOD
