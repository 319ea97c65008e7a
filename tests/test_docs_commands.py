"""Every command of the documents is run: here, in small and in one process, or by the test that a table names."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from data.test_amos import write_amos
from data.test_chaos import write_chaos
from helpers_bundle import AFFINE, ROOT, volume, write_model
from helpers_data import write_json, write_pair
from helpers_docs import DOCUMENTS, blocks_of, commands_of, run
from helpers_imaging import write_nifti
from helpers_photographs import frame_of, save, types_of, write_cells, write_endovis

# command -> the file that runs it or its like, and the test's name or the words there
ELSEWHERE = {
    r"pip install -r requirements.txt$": (".ci/run", "pip install"),
    r"python -m monai.bundle run training .*quickstart.yaml'\]\" --bundle_root bundle$": (".ci/run", "quickstart.yaml"),
    r"pip install -r requirements-dev.txt|python -m pytest$": (".ci/run", "python -m pytest"),
    r"pip install --no-deps -e \.": ("tests/e2e/test_packed_bundle.py", "test_a_wheel_holds_package_configs_and_app"),
    r"pip wheel|B=\$\(python|.*\$B/": (
        "tests/e2e/test_packed_bundle.py",
        "test_a_wheel_holds_package_configs_and_app",
    ),
    r"cd mydata_bundle|.*(verify_metadata|verify_net_in_out|ckpt_export)": (
        "tests/e2e/test_packed_bundle.py",
        "test_the_checks_of_monai_and_of_its_model_zoo",
    ),
    r"torchrun .*run training": ("tests/e2e/test_processes.py", "test_two_processes_learn_what_one_learns_and"),
    r"torchrun .*evaluate.yaml','bundle": ("tests/e2e/test_processes.py", "test_one_table_for_all"),
    r"torchrun .*inference.yaml','bundle": ("tests/e2e/test_processes.py", "test_cases_are_shared_out"),
    r"python benchmarks/comparison.py": ("tests/test_comparison_program.py", "test_a_table_of_networks"),
    r"python -m swin_umamba.weights fetch": ("tests/test_fetching.py", "test_fetch_puts_the_file_in_its_place"),
    r"python -m monailabel_app --studies (data|~)": ("tests/e2e/test_slicer.py", "test_day_of_an_annotator"),
    r"python -m monailabel_app --studies http": ("tests/e2e/test_pacs.py", "serve(connection.url"),
    r"python -m monailabel_app.pacs send": ("tests/e2e/test_pacs.py", "test_series_that_still_arrives"),
    r"python -m monailabel_app.pacs purge": ("tests/e2e/test_pacs_trouble.py", 'command(["purge"'),
    r"python -m monailabel_app --orthanc": ("tests/e2e/test_ohif.py", "test_own_orthanc_ends_with_the_server"),
    r"python -m monailabel_app.ohif fetch": (".ci/run", "monailabel_app.ohif fetch"),
    r"monailabel start_server": ("tests/app/test_server.py", "start_server"),
    r"ls data/phantom": ("tests/app/test_server.py", "labels"),
}
SYSTEM = (
    r"git clone|cd /srv|python3\.11 -m venv|venv/bin/pip|install -d|useradd|cp monailabel_app|systemctl|systemd-analyze"
)
SYSTEM += r"|journalctl|nginx|curl https://segmentation|\(umask|docker|apt-get"  # what changes a whole machine
UNTRIED = r"trtexec"  # TensorRT was never at hand; docs/packing.md says so
SERVER = r"curl (-X \w+ )?\"http://127\.0\.0\.1:8000"  # a request; its address is looked up in the server
CHANGES = {  # what the documents leave open
    "<file or folder>": "images",
    "<folder>": "results/own",
    "IMAGES": "images",
    "RESULTS": "results/own",
    "--include torchscript,onnx": "",  # tests/packing and tests/test_onnx_export.py
    "--training 48": "--training 2",
    "--workers 0 1 2": "--workers 0 --batches 2 --steps 3 --set datalist=data.json network_name=swin_umamba_d_tiny",
    "swin_umamba.planning mydata_fold0.json": "swin_umamba.planning mydata_fold0.json --network swin_umamba_tiny",
    "swin_umamba.planning data.json": "swin_umamba.planning data.json --network swin_umamba_tiny",
}


def is_elsewhere(command: str) -> bool:
    return any(re.match(pattern, command) for pattern in (*ELSEWHERE, SYSTEM, UNTRIED, SERVER))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with everything that the documents take for granted, as the working directory."""
    root = tmp_path_factory.mktemp("world")
    for folder in ("bundle/configs", "configs"):
        shutil.copytree(ROOT / folder, root / folder)
    (root / "models").mkdir()
    (root / "models" / "chaos_mri").symlink_to(ROOT / "models" / "chaos_mri")
    write_model(root / "models" / "microscopy", modality="GM", instances="liver", network=colour_network())
    write_nnunet(root / "Dataset702_AbdomenMR")
    write_photographs(root / "Dataset704_Endovis17")
    write_amos(root / "amos22")
    write_chaos(root / "Train_Sets", patients=(1, 2, 3, 10, 21))
    write_msd(root / "Task09_Spleen")
    write_endovis(root / "endovis", test_frames=1)
    write_cells(root / "cells")
    for number, patient in enumerate((1, 2, 10, 21, 37, 15, 22, 39)):
        name = f"chaos_{patient}"
        write_pair(root / "chaos" / f"{name}_t2spir.nii.gz", root / "chaos" / f"{name}_label.nii.gz", number)
    write_nifti(root / "images" / "a.nii.gz", volume(0)[0], AFFINE)
    save(root / "photographs" / "a.png", frame_of(1, 0)[0])
    for number in range(4):
        image, labels = volume(number)
        place = root / "visits" / f"p{number}_first"
        write_nifti(place.with_name(f"{place.name}.nii.gz"), image, AFFINE)
        write_nifti(place.with_name(f"{place.name}_mask.nii.gz"), labels, AFFINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.syspath_prepend(str(root))
        yield root


def colour_network() -> dict:
    return {"name": "swin_umamba_d_tiny", "arguments": {"in_channels": 3}}


def write_nnunet(folder: Path) -> None:
    for number in range(8):
        write_pair(folder / f"imagesTr/c{number}_0000.nii.gz", folder / f"labelsTr/c{number}.nii.gz", number)
    labels = {"background": 0, "liver": 1, "right kidney": 2, "spleen": 3, "pancreas": 4}
    plain = {"channel_names": {"0": "MR"}, "labels": labels, "numTraining": 8, "file_ending": ".nii.gz"}
    write_json(folder / "dataset.json", plain)


def write_photographs(folder: Path) -> None:
    for number in range(4):
        frame, masks = frame_of(2, number)
        save(folder / "imagesTr" / f"f{number}_0000.png", frame)
        save(folder / "labelsTr" / f"f{number}.png", types_of(2, masks))
    labels = {"background": 0, "Large Needle Driver": 3, "Monopolar Curved Scissors": 6}
    plain = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": labels, "numTraining": 4, "file_ending": ".png"}
    write_json(folder / "dataset.json", plain)


def write_msd(folder: Path) -> None:
    for number in range(5):
        write_pair(folder / f"imagesTr/s{number}.nii.gz", folder / f"labelsTr/s{number}.nii.gz", number)
    entries = [{"image": f"./imagesTr/s{n}.nii.gz", "label": f"./labelsTr/s{n}.nii.gz"} for n in range(5)]
    labels = {"0": "background", "1": "spleen", "2": "liver", "3": "stomach", "4": "aorta"}
    plain = {"modality": {"0": "MRI"}, "labels": labels, "numTraining": 5, "training": entries, "test": []}
    write_json(folder / "dataset.json", plain)


def shrink(folder: Path) -> None:
    """Leave one of 18 voxels of each volume: what comes after is then a matter of seconds."""
    for file in folder.rglob("*.nii.gz"):
        image = nib.load(file)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::3, ::3, ::2], image.affine), file)


# a document's commands may need what another one's have left
RUN = ["README.md", "models/chaos_mri/README.md", "docs/results.md", "docs/training.md"]
RUN += ["docs/data.md", "docs/packing.md", "docs/reproducing.md"]


@pytest.mark.parametrize("document", RUN)
def test_commands_of_a_document_run(world, document):
    if document == "docs/reproducing.md":  # the public folder has no test section, that of the paper's authors has
        dataset = world / "Dataset702_AbdomenMR"
        write_pair(dataset / "imagesTs/t_0000.nii.gz", dataset / "labelsTs/t.nii.gz", 50)
    for command in commands_of(document):
        if is_elsewhere(command):
            continue
        run(command, CHANGES)
        if "swin_umamba.data phantom" in command:
            shrink(Path(command.split()[4]))
        if "swin_umamba.packing" in command:
            with zipfile.ZipFile("mydata_bundle.zip") as archive:
                archive.extractall()
        words = shlex.split(command)
        for flag in ("--output_dir", "--model_dir", "--output"):
            if flag in words and "<" not in command and "RESULTS" not in command and "--folds" not in words:
                assert Path(words[words.index(flag) + 1]).exists(), command
    if document == "docs/data.md":
        assert json.loads(Path("runs/mydata_ensemble/metrics.json").read_text())["model"]["members"]


def test_worked_examples_of_extending_run(world):
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    for name, block in re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)```", text, re.DOTALL | re.MULTILINE):
        Path(name).write_text(block, encoding="utf-8")
    commands = commands_of("docs/extending.md")
    assert len(commands) == 4
    for command in (*commands[2:], *commands[:2]):  # the data set first, as the text says
        run(command, CHANGES)
    assert "attention_unet" in Path("models/attention/model.yaml").read_text(encoding="utf-8")
    assert [path.name for path in Path("results/attention").glob("*_seg.nii.gz")]


def test_every_command_is_run_by_some_test():
    known = {"docs/extending.md", *RUN}
    for document in DOCUMENTS:
        for command in commands_of(document):
            assert is_elsewhere(command) or (document in known and "python" in command), f"{document}: {command}"


@pytest.mark.parametrize(("file", "name"), sorted(set(ELSEWHERE.values())))
def test_tests_that_run_the_others_exist(file, name):
    assert name in (ROOT / file).read_text(encoding="utf-8")


def test_requests_have_an_address_in_the_server():
    from monailabel_app.server import create_app  # takes long

    layer = create_app()
    while not hasattr(layer, "openapi"):
        layer = layer.app  # what guards and logs lies around it
    paths = {re.sub(r"{[^}]+}", "[^/]+", path): methods for path, methods in layer.openapi()["paths"].items()}
    requests = [c for document in DOCUMENTS for c in commands_of(document) if re.match(SERVER, c)]
    assert len(requests) > 10
    for command in requests:
        words = shlex.split(command)
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        address = next(word for word in words if word.startswith("http"))
        path = address.removeprefix("http://127.0.0.1:8000").split("?")[0]
        assert any(re.fullmatch(known, path) and method.lower() in paths[known] for known in paths), command


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_of_a_document_names_what_exists(document):
    for block in blocks_of(document, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
