"""Every label that was ever submitted, and one line about each change.

    <data_dir>/labels/<image>/<time>-<digest>.nii.gz   the label, as it was sent
    <data_dir>/labels/<image>/<digest>.json            what its values mean, and who sent it
    <data_dir>/audit.jsonl                             one JSON line for each change

The label is safe here, on the disk, before the data store changes anything. What a label's values mean is found by the
digest of its file, so a crash between the two cannot pair a label with another's names.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swin_umamba.files import make_writable_folder, replace_file
from swin_umamba.models import file_sha256

DIGITS = 16


class History:
    """Keep labels and tell changes.

    Args:
        data_dir: of the app.
    """

    def __init__(self, data_dir: str | os.PathLike) -> None:
        self.folder = make_writable_folder(Path(data_dir) / "labels")
        self.audit_file = Path(data_dir) / "audit.jsonl"
        self._lock = threading.Lock()

    def keep(self, image: str, file: str | os.PathLike, info: Mapping[str, Any]) -> str:
        """Store a copy of a label and what it means; returns its digest when both are on the disk.

        A label that was here before keeps what is known of it, unless it is told anew.
        """
        digest = file_sha256(file)[:DIGITS]
        info = {**self.info_of(image, file), **info}
        suffix = "".join(Path(file).suffixes[-2:]) if str(file).endswith(".gz") else Path(file).suffix
        with replace_file(self.folder / image / f"{digest}.json") as path:
            path.write_text(json.dumps(dict(info), ensure_ascii=False, default=str), encoding="utf-8")
        if not list((self.folder / image).glob(f"*-{digest}{suffix}")):
            stamp = time.strftime("%Y%m%dT%H%M%S")
            with replace_file(self.folder / image / f"{stamp}-{digest}{suffix}") as path:
                shutil.copyfile(file, path)
        return digest

    def info_of(self, image: str, file: str | os.PathLike) -> dict[str, Any]:
        """Return what was kept about a label file, by its content; empty if it was never submitted."""
        path = self.folder / image / f"{file_sha256(file)[:DIGITS]}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def tell(self, action: str, **about: Any) -> None:
        """Append a line to the audit file, on the disk before this returns."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "action": action, **about}, default=str)
        with self._lock, open(self.audit_file, "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
