"""What inference leaves behind: a label map and a picture for each case, one table of volumes, one report."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.data import MetaTensor
from monai.transforms import Orientation

from swin_umamba import __version__
from swin_umamba.anatomy_checks import warn_of_anatomy
from swin_umamba.distributed import gather_cases, is_rank_zero, together
from swin_umamba.engines import CaseEvaluator, case_name
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder, replace_file
from swin_umamba.formats import DICOM_SEG, NIFTI, OUTPUT_FORMATS, no_series, output_formats
from swin_umamba.label_maps import DISCLAIMER, organ_volumes, save_label_map
from swin_umamba.models import ModelSpec
from swin_umamba.photograph_outputs import write_photograph_results, write_photograph_tables
from swin_umamba.photographs import is_photograph
from swin_umamba.pictures import draw_case, save_picture
from swin_umamba.transforms import file_name

REPORT_FILE, VOLUMES_FILE = "report.json", "volumes.csv"


class CaseWriter:
    """Write a case's label map in the formats that are asked for, and a picture of it, `<case>_overlay.png`.

    The files are `<case>_seg.nii.gz`, `<case>_seg.dcm` (DICOM SEG) and `<case>_rtstruct.dcm`; all of them are written,
    or none when one fails. Of photographs they are those of `swin_umamba.photograph_outputs`.

    Args:
        output_dir: folder for the files; made when it is missing.
        labels: organ -> id.
        picture: draw the picture too.
        output_format: one or several of `swin_umamba.formats.OUTPUT_FORMATS`; what is not named is not written.
        spec: of the model, for DICOM.
        cases: where the files of each DICOM series are, as `swin_umamba.cases.find_cases` tells.

    Raises:
        InputError: if the folder cannot be written to, or a format is unknown.
    """

    def __init__(
        self,
        *,
        output_dir: str | os.PathLike,
        labels: Mapping[str, int],
        picture: bool = True,
        output_format: str | Sequence[str] = NIFTI,
        spec: ModelSpec | None = None,
        cases: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.formats = output_formats(output_format)
        self.output_dir = make_writable_folder(output_dir)
        self.labels = dict(labels)
        self.picture = picture
        self.spec = spec
        self.series = {case_name(c): c["image"] for c in cases if isinstance(c.get("image"), tuple)}

    def __call__(self, case: str, image: MetaTensor, labels: MetaTensor) -> dict[str, Any]:
        """Write one case.

        Args:
            case: its name, the beginning of the file names.
            image: (1, X, Y, Z), for the picture, on the grid of `labels` up to orientation.
            labels: label map (1, X, Y, Z) on the grid of the file that it was made from.

        Returns:
            For the report: "output" (file name of the first format), "outputs" {format: file name}, "overlay" (file
            name) if there is one, and "volumes" {organ: {"ml", "voxels"}}; of a photograph see
            `write_photograph_results`.

        Raises:
            InputError: if a format needs a DICOM series and the case is none.
        """
        if is_photograph(file_name(labels)):
            objects = None if self.spec is None else self.spec.instances
            options: dict[str, Any] = {"instances": objects, "picture": self.picture}
            return write_photograph_results(self.output_dir, case, labels, self.labels, **options)
        files = {name: f"{case}{OUTPUT_FORMATS[name]}" for name in self.formats}
        written: dict[str, Any] = {"output": files[self.formats[0]], "outputs": files}
        volumes = organ_volumes(labels, self.labels)
        warn_of_anatomy(labels, self.labels)
        with contextlib.ExitStack() as together:
            paths = {name: together.enter_context(replace_file(self.output_dir / files[name])) for name in files}
            for name, path in paths.items():
                self._save(name, path, case, labels)
            if self.picture:
                written["overlay"] = f"{case}_overlay.png"
                path = together.enter_context(replace_file(self.output_dir / written["overlay"]))
                to_ras = Orientation("RAS", labels=None)
                ras_image, ras_labels = MetaTensor(to_ras(image)), MetaTensor(to_ras(labels))
                save_picture(draw_case(case, ras_image, ras_labels, self.labels, volumes), path)
        return {**written, "volumes": volumes}

    def _save(self, name: str, path: Path, case: str, labels: MetaTensor) -> None:
        if name == NIFTI:
            save_label_map(path, labels)
            return
        from swin_umamba.dicom.segmentation import write_segmentation  # highdicom takes long to import
        from swin_umamba.dicom.structures import write_structures

        if case not in self.series:
            raise InputError(no_series([name], case))
        if self.spec is None:
            raise InputError(f"output_format {name} needs the model's description; legal: a spec")
        write = write_segmentation if name == DICOM_SEG else write_structures
        write(labels, self.series[case], self.spec, path)


class CaseReport:
    """Ignite handler that keeps `report.json` and the tables up to date while a `CaseEvaluator` works.

    The table is `volumes.csv`; of photographs `areas.csv`, and of objects `counts.csv`.

    Cases of earlier runs into the same folder stay in all, as long as their label maps are there and this run does not
    hold them again. Of several processes the first one writes: its own cases while it works, all of them at the end.

    Args:
        output_dir: folder of the two files.
    """

    def __init__(self, *, output_dir: str | os.PathLike) -> None:
        self.output_dir = Path(output_dir)
        self.earlier: list[dict[str, Any]] = []

    def attach(self, engine: CaseEvaluator) -> None:
        """Register with a `CaseEvaluator`."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.write)
        if together():
            engine.add_event_handler(Events.COMPLETED, self.write_all)

    def start(self, engine: CaseEvaluator) -> None:
        """Read what earlier runs reported."""
        make_writable_folder(self.output_dir)
        self.earlier = _earlier_cases(self.output_dir)

    def write(self, engine: CaseEvaluator) -> None:
        """Write both files anew with the cases that the engine has finished."""
        self._write(engine.records)

    def write_all(self, engine: CaseEvaluator) -> None:
        """Write both files anew with the cases of all processes."""
        self._write(gather_cases(engine.records))

    def _write(self, records: Sequence[Mapping[str, Any]]) -> None:
        if not is_rank_zero():
            return
        done = {record["case"] for record in records}
        cases = [record for record in self.earlier if record["case"] not in done] + list(records)
        cases.sort(key=lambda record: record["case"])
        write_report(self.output_dir, cases)
        if any("areas" in case for case in cases):
            write_photograph_tables(self.output_dir, cases)
        else:
            write_volumes(self.output_dir, cases)


def write_report(folder: str | os.PathLike, cases: Iterable[Mapping[str, Any]]) -> None:
    """Write the report of all cases, atomically."""
    report = {"note": DISCLAIMER, "code_version": __version__, "cases": list(cases)}
    with replace_file(Path(folder) / REPORT_FILE) as path:
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_volumes(folder: str | os.PathLike, cases: Iterable[Mapping[str, Any]]) -> None:
    """Write the table of volumes, a line for each case and organ, atomically."""
    with replace_file(Path(folder) / VOLUMES_FILE) as path, open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["case", "organ", "volume_ml", "voxels", "confidence"])
        for case in cases:
            sure = case.get("confidence", {}).get("organs", {})
            for organ, volume in case.get("volumes", {}).items():
                row = [case["case"], organ, f"{volume['ml']:.3f}", volume["voxels"]]
                table.writerow([*row, f"{sure[organ]:.3f}" if organ in sure else ""])


def _earlier_cases(folder: Path) -> list[dict[str, Any]]:
    path = folder / REPORT_FILE
    if not path.is_file():
        return []
    try:
        cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
        return [case for case in cases if case.get("output") and (folder / case["output"]).is_file() and case["case"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no report of ours; move it away or choose another output_dir") from error
