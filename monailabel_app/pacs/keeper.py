"""What the server does about the PACS when nobody waits for it: lists, labels that wait, old copies."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from monailabel_app.pacs.connection import PacsError
from monailabel_app.pacs.datastore import PacsDatastore

logger = logging.getLogger(__name__)

FRESH_SECONDS = 5.0  # between two lists, while people use the server
FIRST_SECONDS = 15.0  # that the server's start waits for the first list
RETRY_SECONDS, LONGEST_RETRY = 15.0, 600.0  # until labels that wait are sent again, longer each time
EXPIRY_SECONDS = 60 * 60.0  # between two looks for old copies


class Keeper:
    """A thread that keeps a data store up to date with its PACS.

    Args:
        store: to keep.
    """

    def __init__(self, store: PacsDatastore) -> None:
        self.store = store
        self.error: str | None = None
        self.updated: float | None = None
        self._first = threading.Event()
        self._expired = 0.0
        self._retry = RETRY_SECONDS

    def start(self) -> None:
        """Begin, and wait a while for the first list."""
        threading.Thread(target=self._run, name="pacs", daemon=True).start()
        self._first.wait(FIRST_SECONDS)

    def state(self) -> dict[str, Any]:
        """Return plain data for an administrator."""
        copies = self.store.cache.used()
        refused = self.store.records.refused()
        return {
            "url": self.store.client.url,
            "error": self.error,
            "updated": self.updated and time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.updated)),
            "series": len(self.store._datastore.objects),
            "waiting": [{"image": image, "tag": tag} for image, tag in self.store.waiting()],
            "refused": refused,
            "copies": {"series": len(copies), "bytes": sum(size for _, size in copies.values())},
        }

    def _run(self) -> None:
        while True:
            try:
                self._round()
            except Exception:
                logger.exception("keeping up with the PACS failed; it is tried again")
            self._first.set()
            time.sleep(FRESH_SECONDS)
            waits = self.error is not None or bool(self.store.waiting())
            self.store.wake.wait(self._retry if waits else EXPIRY_SECONDS)
            self.store.wake.clear()

    def _round(self) -> None:
        try:
            self.store.update()
        except PacsError as error:
            if self.error is None:
                logger.warning("%s; what is known of it stays, and labels wait", error)
            self.error = str(error)
        else:
            if self.error is not None:
                logger.info("the PACS answers again")
            self.error, self.updated = None, time.time()
            self._first.set()
            waiting = self.store.waiting()
            sent = [self.store.send(image, tag) == "stored" for image, tag in waiting]
            self._retry = RETRY_SECONDS if any(sent) or not waiting else min(2 * self._retry, LONGEST_RETRY)
        if time.time() - self._expired > EXPIRY_SECONDS:
            self._expired = time.time()
            removed = self.store.cache.expire()
            if removed:
                logger.info("copies of %d series removed", len(removed))
