"""`python -m swin_umamba.data`: make phantoms and data lists, check data sets, show label tables."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_umamba.data.datalist import SECTIONS, save_datalist
from swin_umamba.data.labels import LABEL_TABLES, check_organs, label_table, organ_name
from swin_umamba.data.phantom_files import write_phantoms
from swin_umamba.data.splits import Sections, Split, compile_pattern, set_patients, split_sections
from swin_umamba.errors import InputError, report_errors_in_one_line

if TYPE_CHECKING:
    from swin_umamba.data.formats import Source  # brings in MONAI, which takes seconds

PROGRAM = "python -m swin_umamba.data"
FORMATS = ("folder", "nnunet", "msd", "amos", "chaos", "endovis17", "cellseg")
OVERLAYS = {"ES": "endoscopy", "GM": "microscopy"}  # modality -> the overlay that training such images begins with
ABOUT = ("name", "description", "modality", "licence")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None takes the process's.

    Returns:
        Exit code: 0, or 1 when `check` found a problem.

    Raises:
        InputError: for anything the user has to change.
    """
    report_errors_in_one_line()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("swin_umamba").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__.split(": ", 1)[1])
    commands = parser.add_subparsers(required=True, metavar="phantom | datalist | check | labels")
    _add_phantom(commands)
    _add_datalist(commands)
    command = commands.add_parser("check", help="look into every file of a data list")
    command.add_argument("datalist", help="the JSON file")
    command.add_argument("--dataset_dir", help="folder that relative paths start from; default: the data list's own")
    command.set_defaults(run=_check)
    command = commands.add_parser("labels", help="show the label tables")
    command.add_argument("table", nargs="?", help="one of them; default: all names")
    command.set_defaults(run=_labels)
    given = parser.parse_args(arguments)
    return given.run(given)


def _add_phantom(commands: Any) -> None:
    command = commands.add_parser("phantom", help="generate cases, for trying things out")
    command.add_argument("folder", help="gets images/, labels/ and datalist.json")
    for name, count in (("training", 24), ("validation", 2), ("test", 4), ("seed", 0)):
        command.add_argument(f"--{name}", type=int, default=count, help="default: %(default)s")
    command.add_argument("--workers", type=int, help="processes; default: one for each CPU")
    command.set_defaults(run=_phantom)


def _add_datalist(commands: Any) -> None:
    command = commands.add_parser("datalist", help="make a data list of a data set on disk")
    formats = command.add_subparsers(required=True, dest="format", metavar=" | ".join(FORMATS))
    common = _common_options()
    folder = formats.add_parser("folder", parents=[common], help="pairs of image and label files")
    folder.add_argument(
        "--labels", required=True, help=f"{', '.join(LABEL_TABLES)}, or a JSON or YAML file {{organ: id}}"
    )
    folder.add_argument("--image_suffix", help="images are <case>_<this>; default: the files in images/")
    folder.add_argument("--label_suffix", help="label maps are <case>_<this>; default: the files in labels/")
    formats.add_parser("nnunet", parents=[common], help="raw data folder of nnU-Net v2")
    formats.add_parser("msd", parents=[common], help="dataset.json of the Decathlon")
    formats.add_parser("amos", parents=[common], help="AMOS22 as distributed: its MRI, with the published division")
    chaos = formats.add_parser("chaos", parents=[common], help="CHAOS as distributed: DICOM with PNG label maps")
    chaos.add_argument("--sequence", type=_names, default=("t2spir",), help="t2spir, t1_in, t1_out; default: t2spir")
    endovis = formats.add_parser("endovis17", parents=[common], help="EndoVis17 as distributed: frames, masks of tools")
    cellseg = formats.add_parser("cellseg", parents=[common], help="NeurIPS 2022 cells as distributed: numbered cells")
    for reader in (chaos, endovis, cellseg):
        reader.add_argument("--label_dir", help="folder for label maps; default: <output without .json>_labels")
    command.set_defaults(run=_datalist)


def _common_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("source", help="where the data set is")
    options.add_argument("--output", required=True, help="JSON file to write")
    options.add_argument("--only", metavar="REGEX", help="take only cases whose whole name matches")
    options.add_argument("--patient_pattern", metavar="REGEX", help="its one group finds the patient in a case's name")
    for section in ("validation", "test"):
        options.add_argument(
            f"--{section}", type=float, default=0.0, metavar="SHARE", help="of the patients, such as 0.2"
        )
        options.add_argument(f"--{section}_patients", type=_names, default=(), metavar="A,B,…", help="by name instead")
    options.add_argument("--folds", type=int, default=0, help="one data list for each part of a cross-validation")
    options.add_argument("--fold", type=int, help="write only this one, 0 is the first, to --output itself")
    options.add_argument("--seed", type=int, default=0, help="of the draw; default: %(default)s")
    options.add_argument("--labelled", type=_names, default=(), metavar="A,B,…", help="organs annotated; default: all")
    options.add_argument("--keep_unlabelled", action="store_true", help="put images without label map into test")
    for key in ABOUT:
        options.add_argument(f"--{key}", help="written into the data list")
    return options


def _phantom(given: argparse.Namespace) -> int:
    counts = {section: getattr(given, section) for section in SECTIONS}
    print(write_phantoms(given.folder, **counts, seed=given.seed, workers=given.workers))
    return 0


def _check(given: argparse.Namespace) -> int:
    from swin_umamba.data.check import check_dataset, describe  # brings in MONAI, which takes seconds

    report = check_dataset(given.datalist, given.dataset_dir)
    print(describe(report))
    return 1 if report.problems else 0


def _labels(given: argparse.Namespace) -> int:
    if given.table is None:
        for name, table in LABEL_TABLES.items():
            print(f"{name}: {len(table)} organs")
    else:
        for organ, number in label_table(given.table).items():
            print(f"{number:>3} {organ}")
    return 0


def _datalist(given: argparse.Namespace) -> int:
    split = Split(
        validation=given.validation,
        test=given.test,
        validation_patients=given.validation_patients,
        test_patients=given.test_patients,
        folds=given.folds,
        seed=given.seed,
    )
    if given.fold is not None and not 0 <= given.fold < given.folds:
        legal = f"0 to {given.folds - 1}" if given.folds else "only together with --folds"
        raise InputError(f"--fold {given.fold}: legal is {legal}")
    labels, about, sections, unlabelled = _read(given)
    plain: dict[str, Any] = {"modality": "MR", **about, "labels": labels}
    plain.update({key: getattr(given, key) for key in ABOUT if getattr(given, key) is not None})
    if given.labelled:
        plain["labelled"] = check_organs(map(organ_name, given.labelled), labels, "--labelled")
    divisions = split_sections(set_patients(sections, given.patient_pattern), split)
    if given.keep_unlabelled:
        kept = set_patients({"test": unlabelled}, given.patient_pattern)["test"]
        divisions = [{**division, "test": division["test"] + kept} for division in divisions]
    for path, division in _outputs(given, divisions).items():
        _tell(save_datalist(path, {**plain, **division}), division, plain["modality"])
    if unlabelled and not given.keep_unlabelled:
        print(f"{len(unlabelled)} images without label map were left out; --keep_unlabelled puts them into test")
    return 0


def _read(given: argparse.Namespace) -> tuple[dict[str, int], dict[str, str], Sections, list[dict[str, Any]]]:
    """Return labels, description, sections and unlabelled items of the source, of the cases asked for."""
    from swin_umamba.data import formats  # brings in MONAI, which takes seconds

    if given.format == "folder":
        source = formats.read_folder(given.source, given.labels, given.image_suffix, given.label_suffix)
    elif given.format in ("chaos", "endovis17", "cellseg"):
        source = _read_with_own_label_maps(given)
    else:
        from swin_umamba.data.amos import read_amos

        readers = {"nnunet": formats.read_nnunet, "msd": formats.read_msd, "amos": read_amos}
        source = readers[given.format](given.source)
    sections, unlabelled = source.sections, source.unlabelled
    if given.only:
        only = compile_pattern("only", given.only)
        sections = {name: [i for i in items if only.fullmatch(i["case"])] for name, items in sections.items()}
        unlabelled = [item for item in unlabelled if only.fullmatch(item["case"])]
        if not any(sections.values()) and not (unlabelled and given.keep_unlabelled):
            names = [item["case"] for items in source.sections.values() for item in items]
            raise InputError(f"--only {given.only!r} matches no case; there are {', '.join(names[:5])}, …")
    source.sections, source.unlabelled = sections, unlabelled
    formats.check_files_exist(source)
    return source.labels, source.about, sections, unlabelled


def _read_with_own_label_maps(given: argparse.Namespace) -> Source:
    """Read a data set whose label maps are made here, beside the data list unless it is said where."""
    label_dir = given.label_dir or f"{Path(given.output).with_suffix('')}_labels"
    if given.format == "chaos":
        from swin_umamba.data.chaos import read_chaos

        return read_chaos(given.source, label_dir, given.sequence)
    if given.format == "endovis17":
        from swin_umamba.data.endovis import read_endovis

        return read_endovis(given.source, label_dir)
    from swin_umamba.data.cellseg import read_cellseg

    return read_cellseg(given.source, label_dir)


def _outputs(given: argparse.Namespace, divisions: list[Sections]) -> dict[Path, Sections]:
    output = Path(given.output)
    if not given.folds:
        return {output: divisions[0]}
    if given.fold is not None:
        return {output: divisions[given.fold]}
    return {output.with_name(f"{output.stem}_fold{n}{output.suffix}"): part for n, part in enumerate(divisions)}


def _tell(path: str, division: Sections, modality: str) -> None:
    """Print what was written and what to do with it."""
    from swin_umamba.photographs import MODALITIES  # brings in MONAI, which takes seconds

    print(path)
    for section in SECTIONS:
        items = division[section]
        print(f"  {section:<11}{len(items):>5} cases {len({item['patient'] for item in items}):>5} patients")
    print(f"  next: {PROGRAM} check {path}")
    config = "bundle/configs/train.yaml"
    if modality in MODALITIES:
        config = f"\"['{config}','configs/{OVERLAYS.get(modality, 'microscopy')}.yaml']\""
    elif division["training"]:
        print(f"  plan: python -m swin_umamba.planning {path} --output configs/{Path(path).stem}.yaml")
    if division["training"] and division["validation"]:
        print(
            f"  then: python -m monai.bundle run training --config_file {config} --bundle_root bundle --datalist {path}"
        )
    elif division["training"]:
        print("  training also wants validation cases: --validation 0.2, --validation_patients A,B,… or --folds 5")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


if __name__ == "__main__":
    sys.exit(main())
