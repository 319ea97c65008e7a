"""What a running server does about old copies of series."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from monailabel_app.pacs.cache import DAY, SeriesCache
from monailabel_app.pacs.connection import PacsError
from monailabel_app.pacs.keeper import Keeper


def test_old_copies_go_by_themselves_also_while_the_pacs_is_away(tmp_path: Path) -> None:
    def away() -> None:
        raise PacsError("the PACS does not answer")

    cache = SeriesCache(tmp_path, days=5)
    for uid, days in {"1.1": 6, "1.2": 4}.items():
        cache.dicom(uid, 1, lambda folder: (folder / "0.dcm").write_bytes(b"0"))
        os.utime(tmp_path / uid, (time.time() - days * DAY,) * 2)
    store = SimpleNamespace(update=away, waiting=lambda: [], wake=threading.Event(), cache=cache)
    keeper = Keeper(store)  # type: ignore[arg-type]
    keeper.start()
    assert keeper.error == "the PACS does not answer"
    assert list(cache.used()) == ["1.2"]
