"""Where the bundle's configs are: beside this package in a checkout or a packed bundle, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

from swin_umamba.errors import InputError

PACKAGE = Path(__file__).resolve().parent
INSIDE, OVERLAYS = "bundle", "overlays"  # where the wheel has them; see setup.py


def bundle_root() -> Path:
    """Return the bundle's folder, which holds `configs/`, `docs/` and `LICENSE`.

    Raises:
        InputError: if the package was copied somewhere without it.
    """
    for folder in (PACKAGE.parent, PACKAGE / INSIDE):
        if (folder / "configs" / "metadata.json").is_file():
            return folder
    raise InputError(
        f"{str(PACKAGE)!r} has no configs, neither beside nor inside; install the package, or use a checkout"
    )


def overlay_folder() -> Path:
    """Return the folder of the overlays on `train.yaml`, such as finetune.yaml.

    Raises:
        InputError: if there is none, as in a packed bundle.
    """
    root = bundle_root()
    for folder in (root / OVERLAYS, root.parent / "configs"):
        if (folder / "finetune.yaml").is_file():
            return folder
    raise InputError(f"{str(root)!r} comes without overlays; install the package, or use a checkout")
