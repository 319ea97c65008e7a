"""What the server remembers of the PACS: which label it has sent or taken, and which segmentations it has looked at.

One small SQLite file, so that it survives a crash and the processes of trainings and batches can use it. A label waits
for the PACS as long as the digest of its file is not the one noted here, so nothing has to be queued.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from swin_umamba.files import make_writable_folder

SCHEMA = """
create table if not exists sent
    (image text not null, tag text not null, digest text not null, instance text not null, made text not null,
    primary key (image, tag));
create table if not exists refused (what text primary key, why text not null);
create table if not exists seen (series text primary key, instances integer not null, found text not null);
"""


@dataclasses.dataclass(frozen=True)
class Found:
    """A segmentation that a person stored in the PACS.

    Args:
        image: UID of the series that it belongs to.
        study: UID of the study.
        series: UID of its own series.
        instance: its own UID.
        made: date and time of its content, as text that sorts by time.
        who: made it, or "".
    """

    image: str
    study: str
    series: str
    instance: str
    made: str
    who: str


class Records:
    """Notes about labels and segmentations.

    Args:
        folder: for the file.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.file = make_writable_folder(folder) / "pacs.sqlite"
        with self._open() as database:
            database.executescript(SCHEMA)

    def note_sent(self, image: str, tag: str, digest: str, instance: str, made: str) -> None:
        """Note that the PACS has a label.

        Args:
            image: UID of the series.
            tag: of the label.
            digest: of its file here; "" if it is not known here any more.
            instance: its UID in the PACS.
            made: when, as text that sorts by time; the latest ever noted stays, since clocks differ.
        """
        with self._open() as database:
            database.execute(
                "insert into sent values (?, ?, ?, ?, ?) on conflict (image, tag) do update set "
                "digest = excluded.digest, instance = excluded.instance, made = max(made, excluded.made)",
                (image, tag, digest, instance, made),
            )

    def sent(self, image: str, tag: str) -> tuple[str, str, str] | None:
        """Return digest, instance UID and time of the label of a series that the PACS has of us, or that we took."""
        with self._open() as database:
            query = "select digest, instance, made from sent where image = ? and tag = ?"
            return database.execute(query, (image, tag)).fetchone()

    def refuse(self, what: str, why: str) -> None:
        """Note that a label (by digest) cannot be sent, or a segmentation (by UID) not be taken, and why."""
        with self._open() as database:
            database.execute("insert or replace into refused values (?, ?)", (what, why))

    def refused(self) -> dict[str, str]:
        """Return {digest or UID: why}."""
        with self._open() as database:
            return dict(database.execute("select what, why from refused"))

    def note_seen(self, series: str, instances: int, found: Iterable[Found]) -> None:
        """Note what is in a series of segmentations, and how many instances it had then."""
        text = json.dumps([dataclasses.asdict(item) for item in found])
        with self._open() as database:
            database.execute("insert or replace into seen values (?, ?, ?)", (series, instances, text))

    def seen(self) -> dict[str, tuple[int, list[Found]]]:
        """Return {series UID: (instances, what is in it)} of all series of segmentations that were looked at."""
        with self._open() as database:
            rows = database.execute("select series, instances, found from seen").fetchall()
        return {series: (count, [Found(**item) for item in json.loads(text)]) for series, count, text in rows}

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(Path(self.file), timeout=10)
        try:
            with database:
                yield database
        finally:
            database.close()
