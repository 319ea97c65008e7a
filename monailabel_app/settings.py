"""Where the app finds its models, keeps its state and runs its networks."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swin_umamba import installation
from swin_umamba.data.splits import compile_pattern
from swin_umamba.devices import choose_device
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder

from monailabel_app import ROOT

TEMPORARY = "tmp"  # in the data directory: uploads and results on their way; emptied when a server starts
KEYS = (
    *("models", "bundle_root", "data_dir", "device", "patient_pattern", "validation_share", "uncertainty_model"),
    "server_mode",
)


@dataclasses.dataclass(frozen=True)
class AppSettings:
    """What a deployment chooses.

    Args:
        bundle_root: folder of the MONAI bundle whose configs are run.
        model_folders: folders that hold models, each in a folder of its own, or are one themselves.
        data_dir: state and logs: versions of models, history of labels, work lists, training runs. Nothing is written
            into the installation.
        device: of the networks; auto, cpu, cuda, cuda:N.
        patient_pattern: regular expression whose first group is the patient in an image's id; None takes the DICOM
            PatientID, or the whole id.
        validation_share: of the patients that are held out of training, from 0 to below 1.
        uncertainty_model: whose uncertainty of each image is worked out in the background, "none" for no model's; None
            takes the first model for a folder, and none for a PACS.
    """

    bundle_root: Path
    model_folders: tuple[Path, ...]
    data_dir: Path
    device: str = "auto"
    patient_pattern: re.Pattern[str] | None = None
    validation_share: float = 0.2
    uncertainty_model: str | None = None

    @classmethod
    def from_conf(cls, studies: str, conf: Mapping[str, Any]) -> AppSettings:
        """Read the settings of `--conf key value`.

        Args:
            studies: folder of the images, or a DICOMweb URL; state is kept apart for each.
            conf: the fields by name as text, "model_folders" as "models", separated by os.pathsep; all may be missing.

        Raises:
            InputError: for an unknown key, a folder that is not there or cannot be written to, or an illegal value.
        """
        unknown = sorted(set(conf) - set(KEYS))
        if unknown:
            raise InputError(f"conf: unknown keys {unknown}; legal are {', '.join(KEYS)}")
        bundle_root = Path(conf.get("bundle_root") or installation.bundle_root()).expanduser().resolve()
        if not (bundle_root / "configs" / "inference.yaml").is_file():
            raise InputError(
                f"bundle_root {str(bundle_root)!r} holds no configs/inference.yaml; give the bundle's folder"
            )
        named = [Path(part).expanduser().resolve() for part in str(conf.get("models") or "").split(os.pathsep) if part]
        for folder in named:
            if not folder.is_dir():
                raise InputError(f"models: {str(folder)!r} is no folder")
        choose_device(conf.get("device") or "auto")
        pattern = conf.get("patient_pattern")
        return cls(
            bundle_root=bundle_root,
            model_folders=tuple(named) or (ROOT / "models", bundle_root / "models"),
            data_dir=make_writable_folder(Path(conf.get("data_dir") or default_data_dir(studies)).expanduser()),
            device=str(conf.get("device") or "auto"),
            patient_pattern=compile_pattern("patient_pattern", pattern) if pattern else None,
            validation_share=_share(conf.get("validation_share", 0.2)),
            uncertainty_model=conf.get("uncertainty_model") or None,
        )


def _share(value: Any) -> float:
    try:
        share = float(value)
    except ValueError:
        share = -1
    if not 0 <= share < 1:
        raise InputError(f"validation_share {value!r}: legal: a number from 0 to below 1")
    return share


def default_data_dir(studies: str) -> Path:
    """Return where the state of a folder, or of a PACS, is kept unless the user says otherwise."""
    if studies.startswith(("http://", "https://")):
        digest = hashlib.sha256(studies.encode()).hexdigest()[:16]
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
        return base / "swin_umamba" / digest
    return Path(studies).expanduser() / ".swin_umamba"
