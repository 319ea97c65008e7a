"""What pyproject.toml cannot say: the bundle's configs lie beside the package here, and inside it in a wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
BUNDLE = "swin_umamba/bundle"
FILES = {  # folder in the wheel -> what it gets
    f"{BUNDLE}/configs": "bundle/configs/*",
    f"{BUNDLE}/docs": "bundle/docs/*",
    f"{BUNDLE}/overlays": "configs/*.yaml",
    BUNDLE: "bundle/LICENSE",
}


class BuildWithBundle(build_py):
    """Copy the configs too; an editable install finds them where they are."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._bundle():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return super().get_outputs(include_bytecode) + [str(target) for _, target in self._bundle()]

    def _bundle(self) -> list[tuple[Path, Path]]:
        pairs = [(source, folder) for folder, pattern in FILES.items() for source in sorted(ROOT.glob(pattern))]
        return [(source, Path(self.build_lib, folder, source.name)) for source, folder in pairs if source.is_file()]


setup(cmdclass={"build_py": BuildWithBundle})
