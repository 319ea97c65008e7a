"""Which image an annotator gets next; each answer is leased, so that no two people get one study."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from monailabel_app.uncertainty import Uncertainties
from monailabel_app.worklist import Worklist


class _Leasing(Strategy):
    """Choose among the images without a final label, in an order of its own."""

    def __init__(self, description: str, worklist: Worklist) -> None:
        super().__init__(description)
        self.worklist = worklist

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return {"id", "weight"?} of the next image for "client_id", or None when there is nothing left for them."""
        who = str(request.get("client_id") or "")
        images = self.order(datastore.get_unlabeled_images(), who)
        chosen = self.worklist.take(images, who)
        return None if chosen is None else {"id": chosen}

    def order(self, images: list[str], who: str) -> list[str]:
        """Return the images with the most wanted first."""
        raise NotImplementedError


class First(_Leasing):
    """By name."""

    def __init__(self, worklist: Worklist) -> None:
        super().__init__("First image by name that has no final label", worklist)

    def order(self, images: list[str], who: str) -> list[str]:
        """Sort by name."""
        return sorted(images)


class RandomImage(_Leasing):
    """By chance, which is another for each person and stays the same until the image is done or skipped."""

    def __init__(self, worklist: Worklist) -> None:
        super().__init__("Random image that has no final label", worklist)

    def order(self, images: list[str], who: str) -> list[str]:
        """Sort by a hash of image and person."""
        return sorted(images, key=lambda image: hashlib.sha256(f"{who}\n{image}".encode()).digest())


class Uncertainty(_Leasing):
    """The image that the served model is least sure of; images not yet looked at come after those that were.

    Args:
        worklist: of leases.
        table: what the background has found.
    """

    def __init__(self, worklist: Worklist, table: Uncertainties) -> None:
        super().__init__("Image that the model is least sure of and that has no final label", worklist)
        self.table = table

    def order(self, images: list[str], who: str) -> list[str]:
        """Sort by falling uncertainty, then by name."""
        known = self.table.known()

        def rank(image: str) -> tuple[float, str]:
            value = known.get(image, (None, ""))[0]
            return (1.0 if value is None else -value, image)

        return sorted(images, key=rank)
