"""Who works on what: leases, so that two annotators never get one study, skips, review states, progress.

Everything is in one small SQLite file, so that it survives a crash and several processes can use it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from typing import Any

from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder

LEASE_SECONDS = 2 * 60 * 60
STATES = ("unlabelled", "automatic", "corrected", "reviewed")
SCHEMA = """
create table if not exists lease (image text primary key, who text not null, until real not null);
create table if not exists skip (image text not null, who text not null, primary key (image, who));
create table if not exists passed (image text, who text, time real not null, primary key (image, who));
create table if not exists review (image text primary key, who text not null, time real not null);
create table if not exists correction (image text primary key, who text not null, time real not null);
"""


class Worklist:
    """Leases, skips and reviews of the images of one data store.

    Args:
        data_dir: of the app.
        lease_seconds: that a study stays with who got it, unless a label is submitted or it is skipped.
    """

    def __init__(self, data_dir: str | os.PathLike, lease_seconds: float = LEASE_SECONDS) -> None:
        self.file = make_writable_folder(data_dir) / "worklist.sqlite"
        self.lease_seconds = lease_seconds
        with self._open() as database:
            database.executescript(SCHEMA)

    def take(self, candidates: Iterable[str], who: str) -> str | None:
        """Lease the first candidate that nobody else has and `who` has not skipped, and return it.

        Someone who asks again without having submitted a label has passed the image over: it goes back to the others,
        and comes again for them when nothing else is left.

        Args:
            candidates: image ids, the most wanted first.
            who: asks; "" for someone who does not say, which is somebody else each time.
        """
        with self._open() as database:
            database.execute("pragma synchronous = normal")  # a lease may be lost with the machine's power
            database.execute("begin immediate")
            now = time.time()
            database.execute("delete from lease where until < ?", (now,))
            if who:
                database.execute(
                    "insert or replace into passed select image, who, ? from lease where who = ?", (now, who)
                )
                database.execute("delete from lease where who = ?", (who,))
            taken = {row[0] for row in database.execute("select image from lease")}
            taken |= {row[0] for row in database.execute("select image from skip where who = ?", (who,))}
            passed = dict(database.execute("select image, time from passed where who = ?", (who,)))
            free = (image for image in candidates if image not in taken)
            chosen = min(free, key=lambda image: passed.get(image, 0.0), default=None)  # the first of equals
            if chosen is not None:
                row = (chosen, who, now + self.lease_seconds)
                database.execute("insert or replace into lease values (?, ?, ?)", row)
        return chosen

    def skip(self, image: str, who: str) -> None:
        """Never offer an image to someone again, and give it back."""
        with self._open() as database:
            database.execute("insert or ignore into skip values (?, ?)", (image, who))
            database.execute("delete from lease where image = ? and who = ?", (image, who))

    def corrected(self, image: str, who: str) -> None:
        """Note that someone submitted a label; an earlier review no longer counts."""
        with self._open() as database:
            database.execute("insert or replace into correction values (?, ?, ?)", (image, who, time.time()))
            for table in ("lease", "passed"):
                database.execute(f"delete from {table} where image = ?", (image,))
            database.execute("delete from review where image = ?", (image,))

    def reviewed(self, image: str, who: str) -> None:
        """Note that someone has approved the present label.

        Raises:
            InputError: if nobody said who.
        """
        if not who:
            raise InputError("review: who is missing; legal: the reviewer's name")
        with self._open() as database:
            database.execute("insert or replace into review values (?, ?, ?)", (image, who, time.time()))

    def states(
        self, final: Iterable[str], automatic: Iterable[str], images: Iterable[str]
    ) -> dict[str, dict[str, Any]]:
        """Return {image: {"state", "corrected_by", "reviewed_by", "with"}} for all images.

        Args:
            final: images with a label by a person.
            automatic: images with a label by a model.
            images: all.
        """
        final, automatic = set(final), set(automatic)
        with self._open() as database:
            corrected = dict(database.execute("select image, who from correction"))
            reviewed = dict(database.execute("select image, who from review"))
            leased = dict(database.execute("select image, who from lease where until >= ?", (time.time(),)))
        return {
            image: {
                "state": STATES[
                    3 if image in final and image in reviewed else 2 if image in final else int(image in automatic)
                ],
                "corrected_by": corrected.get(image) if image in final else None,
                "reviewed_by": reviewed.get(image) if image in final else None,
                "with": leased.get(image),
            }
            for image in images
        }

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.file, timeout=10)
        try:
            with database:
                yield database
        finally:
            database.close()


def progress_of(states: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return how many images are in each state, and what each person has corrected and reviewed."""
    people: dict[str, dict[str, int]] = {}
    for entry in states.values():
        for key in ("corrected_by", "reviewed_by"):
            if entry[key]:
                person = people.setdefault(entry[key], {"corrected": 0, "reviewed": 0})
                person[key.removesuffix("_by")] += 1
    counts = {state: sum(entry["state"] == state for entry in states.values()) for state in STATES}
    return {"total": len(states), **counts, "people": people}
