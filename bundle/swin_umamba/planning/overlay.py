"""Writing a plan as an overlay on `bundle/configs/train.yaml` that a person can read, judge and change."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

import yaml

from swin_umamba.errors import InputError
from swin_umamba.files import replace_file
from swin_umamba.planning.fingerprint import Fingerprint
from swin_umamba.planning.plan import Setting

WIDTH = 110
COMMAND = (
    "python -m monai.bundle run training --config_file \"['bundle/configs/train.yaml','{overlay}']\" "
    "--bundle_root bundle --datalist {datalist}"
)


def write_overlay(path: str | os.PathLike, settings: Sequence[Setting], fingerprint: Fingerprint) -> tuple[Path, Path]:
    """Write the overlay, and beside it what was found, `<name>_fingerprint.json`.

    Args:
        path: of the overlay, `.yaml`; an existing file stays as it is.
        settings: of `plan_training`.
        fingerprint: that they follow from.

    Returns:
        Both files.

    Raises:
        InputError: if the overlay exists already, its name does not end in .yaml, or it cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"--output {str(path)!r}: legal: a name that ends in .yaml")
    if path.exists():
        raise InputError(f"--output {str(path)!r} is there already, perhaps with changes of yours; give another name")
    facts = path.with_name(f"{path.stem}_fingerprint.json")
    with replace_file(facts) as temporary:
        temporary.write_text(json.dumps(fingerprint.as_dict(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with replace_file(path) as temporary:
        temporary.write_text(overlay_text(path, settings, fingerprint), encoding="utf-8")
    return path, facts


def overlay_text(path: Path, settings: Sequence[Setting], fingerprint: Fingerprint) -> str:
    """Return the overlay as text: how to use it, what the data are like, then every setting under its reason."""
    datalist = fingerprint.source if Path(fingerprint.source).suffix == ".json" else "DATALIST.json"
    lines = [f"# Planned for {fingerprint.source}. Use it after bundle/configs/train.yaml:"]
    lines += [f"#   {COMMAND.format(overlay=path, datalist=datalist)}", "#"]
    lines += [f"# {line}".rstrip() for line in describe(fingerprint)]
    for setting in settings:
        lines += ["", *(f"# {line}" for line in textwrap.wrap(setting.reason, WIDTH))]
        lines.append(yaml.safe_dump({setting.key: setting.value}, sort_keys=False, allow_unicode=True).rstrip())
    return "\n".join(lines) + "\n"


def describe(fingerprint: Fingerprint) -> list[str]:
    """Return the fingerprint in words, line by line."""
    cases = fingerprint.cases
    x, y, z = fingerprint.median_spacing()
    shapes = [
        f"{axis} {min(sizes)} to {max(sizes)}"
        for axis, sizes in zip("xyz", zip(*(c.size for c in cases), strict=True), strict=True)
    ]
    gaps = [case.anisotropy for case in cases]
    medians = sorted(case.intensity["p50"] for case in cases)
    lines = [
        f"{len(cases)} cases of {fingerprint.patients} patients looked at (training and validation, never test)",
        "orientation  " + ", ".join(f"{name} {count}" for name, count in fingerprint.orientations().most_common()),
        f"spacing      median {x:.4g} x {y:.4g} x {z:.4g} mm (left-right, front-back, feet-head)",
        f"voxels       {', '.join(shapes)}",
        f"anisotropy   {min(gaps):.3g} to {max(gaps):.3g}, distance of slices by side of pixels",
        f"intensities  medians {medians[0]:.4g} to {medians[-1]:.4g}; MR has no unit, hence z-scores of each volume",
        "",
        f"{'organ':<26}{'share of voxels':>16}{'cases':>8}{'slices':>8}",
    ]
    for organ in fingerprint.labels:
        slices = sum(case.slices.get(organ, 0) for case in cases)
        lines.append(
            f"{organ:<26}{fingerprint.organ_share(organ):>16.4%}{fingerprint.organ_cases(organ):>8}{slices:>8}"
        )
    return lines
