"""The commands of `python -m swin_umamba.data`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import swin_umamba
from swin_umamba.data import load_datalist
from swin_umamba.data.__main__ import main
from swin_umamba.errors import InputError


def make(*arguments: object) -> int:
    return main(["datalist", *(str(argument) for argument in arguments)])


def cases_of(path: Path) -> dict[str, list[str]]:
    plain = json.loads(path.read_text(encoding="utf-8"))
    return {section: [item["case"] for item in plain[section]] for section in ("training", "validation", "test")}


def test_folder_split_described_and_checked(folder, capsys):
    output = folder / "data.json"
    options = ["--patient_pattern", "(p[0-9]+)_", "--validation_patients", "p02", "--test", 0.2, "--seed", 3]
    about = ["--name", "mine", "--licence", "CC0", "--description", "small", "--labelled", "Liver,spleen"]
    assert make("folder", folder, "--labels", "chaos_t2spir", "--output", output, *options, *about) == 0
    said = capsys.readouterr().out
    assert "training       6 cases     3 patients" in said
    assert f"python -m swin_umamba.data check {output}" in said
    assert f"--datalist {output}" in said
    plain = json.loads(output.read_text(encoding="utf-8"))
    assert [plain[key] for key in ("name", "modality", "licence", "description")] == ["mine", "MR", "CC0", "small"]
    assert plain["labelled"] == ["liver", "spleen"]
    assert plain["validation"][0] == {
        "case": "p02_a",
        "patient": "p02",
        "image": "images/p02_a.nii.gz",
        "label": "labels/p02_a.nii.gz",
    }
    assert len(load_datalist(output, "training")) == 6
    assert main(["check", str(output)]) == 0
    assert "no problems" in capsys.readouterr().out


def test_check_fails_with_one_broken_file(folder, capsys):
    output = folder / "data.json"
    make("folder", folder, "--labels", "chaos_t2spir", "--output", output)
    (folder / "labels/p04_b.nii.gz").write_bytes(b"nothing")
    assert main(["check", str(output)]) == 1
    assert "problem: case 'p04_b': " in capsys.readouterr().out


def test_folds_are_files_of_their_own(folder):
    output = folder / "cv.json"
    options = ["--labels", "chaos_t2spir", "--output", output, "--patient_pattern", "(p[0-9]+)_", "--folds", 5]
    make("folder", folder, *options)
    folds = [cases_of(folder / f"cv_fold{number}.json") for number in range(5)]
    assert not output.exists()
    assert sorted(case for fold in folds for case in fold["validation"]) == sorted(
        folds[0]["training"] + folds[0]["validation"]
    )
    make("folder", folder, *options, "--fold", 3)
    assert cases_of(output) == folds[3]


def test_nnunet_and_images_without_label_map(nnunet, tmp_path, capsys):
    output = tmp_path / "far" / "data.json"
    make("nnunet", nnunet, "--output", output, "--validation_patients", "MR_002")
    assert "1 images without label map were left out; --keep_unlabelled" in capsys.readouterr().out
    assert cases_of(output) == {"training": ["MR_000", "MR_001"], "validation": ["MR_002"], "test": ["MR_008"]}
    make("nnunet", nnunet, "--output", output, "--keep_unlabelled")
    assert "training also wants validation cases" in capsys.readouterr().out
    assert cases_of(output)["test"] == ["MR_008", "test_MR_001"]
    assert os.path.isabs(load_datalist(output, "test", need_label=False)[1]["image"])


def test_msd_takes_only_the_cases_asked_for(msd):
    output = msd / "mr.json"
    make("msd", msd, "--output", output, "--only", "a_0[56].*")
    assert cases_of(output) == {"training": ["a_0501"], "validation": ["a_0502"], "test": []}
    with pytest.raises(InputError, match="--only 'b.*' matches no case; there are a_0501, a_0001, a_0502"):
        make("msd", msd, "--output", output, "--only", "b.*")
    with pytest.raises(InputError, match=r"--only '\(' is not a regular expression"):
        make("msd", msd, "--output", output, "--only", "(")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--labelled", "livr"], "--labelled: unknown organ 'livr' .did you mean 'liver'"),
        (["--fold", "2"], "--fold 2: legal is only together with --folds"),
        (["--folds", "3", "--fold", "3"], "--fold 3: legal is 0 to 2"),
        (["--test_patients", "p9"], "unknown patient 'p9'.*legal: p01_a"),
        (["--validation", "2"], "--validation 2.0: legal"),
    ],
)
def test_options_that_cannot_be(folder, options, said):
    with pytest.raises(InputError, match=said):
        make("folder", folder, "--labels", "chaos_t2spir", "--output", folder / "data.json", *options)
    assert not (folder / "data.json").exists()


def test_labels(capsys):
    assert main(["labels"]) == 0
    assert "amos22: 15 organs" in capsys.readouterr().out
    assert main(["labels", "chaos_t2spir"]) == 0
    assert capsys.readouterr().out == "  1 liver\n  2 right kidney\n  3 left kidney\n  4 spleen\n"
    with pytest.raises(InputError, match="unknown label table 'nothing'; legal: abdomen_mri"):
        main(["labels", "nothing"])


@pytest.mark.parametrize("arguments", [[], ["datalist"], ["datalist", "zip", "x"], ["datalist", "msd", "x"]])
def test_usage_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert "usage: python -m swin_umamba.data" in capsys.readouterr().err


def test_an_error_is_one_line_of_the_process():
    environment = {**os.environ, "PYTHONPATH": str(Path(swin_umamba.__file__).parents[1])}
    command = [sys.executable, "-m", "swin_umamba.data", "labels", "nothing"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: unknown label table 'nothing'; legal: abdomen_mri, ")
