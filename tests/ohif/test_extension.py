"""The extension's own tests, which run in Node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from helpers_pacs import need

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "monailabel_app" / "ohif" / "web"


def test_modules_pass_their_tests():
    need("Node (Debian: nodejs)", shutil.which("node") is not None)
    files = sorted(HERE.glob("*.test.mjs"))
    assert len(files) >= 3
    run = subprocess.run(["node", "--test", *map(str, files)], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]


def test_nothing_comes_from_elsewhere():
    files = [path for path in WEB.rglob("*") if path.suffix in (".js", ".ts")]
    assert files
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert "http://" not in text, path
        assert "https://" not in text, path
        assert "localhost" not in text, path
