"""Running configs from Python, and what a training says at its end."""

from __future__ import annotations

import pytest
from helpers_bundle import BUNDLE, ROOT, write_cases, write_model
from monai.bundle import ConfigParser, verify_net_in_out
from swin_umamba import __version__
from swin_umamba.data.labels import LABEL_TABLES
from swin_umamba.errors import InputError
from swin_umamba.workflows import run_workflow, say_what_is_next


def test_workflow_runs_and_comes_back(tmp_path):
    datalist = write_cases(tmp_path / "data", {"test": 1})
    workflow = run_workflow(
        ["inference.yaml"],
        bundle_root=BUNDLE,
        model=str(write_model(tmp_path / "model")),
        dataset_dir=str(datalist.with_name("test0.nii.gz")),
        output_dir=str(tmp_path / "out"),
        device="cpu",
        picture=False,
    )
    assert [record["status"] for record in workflow.evaluator.records] == ["ok"]
    assert (tmp_path / "out" / "test0_seg.nii.gz").is_file()


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    with pytest.raises(InputError, match=r"inference.yaml is missing: bundle_root '.*' is not the folder"):
        run_workflow(["inference.yaml"], bundle_root=tmp_path)


@pytest.mark.parametrize("evaluated", [True, False])
def test_next_steps_are_commands_that_exist(capsys, evaluated):
    say_what_is_next(bundle_root="bundle", model="models/mine", output_dir="eval/test", evaluated=evaluated)
    said = capsys.readouterr().out
    assert ("eval/test/metrics.json" in said) == evaluated
    assert "--model models/mine " in said
    words = said.split()
    assert (ROOT / words[words.index("--config_file") + 1]).is_file()
    config = ConfigParser.load_config_file(BUNDLE / "configs" / "inference.yaml")
    assert {word[2:] for word in words if word.startswith("--")} - {"config_file"} <= set(config)


@pytest.mark.parametrize("name", ["train.yaml", "inference.yaml"])
def test_run_ids_report_errors_in_one_line_first(name):
    config = ConfigParser.load_config_file(BUNDLE / "configs" / name)
    (steps,) = (value for key, value in config.items() if key in ("run", "training") and isinstance(value, list))
    assert steps[0] == {"_target_": "swin_umamba.errors.report_errors_in_one_line"}


def test_changelog_names_the_version():
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_network_takes_and_gives_what_the_metadata_say(tmp_path):
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        config_file=str(BUNDLE / "configs" / "inference.yaml"),
        device="cpu",
        n=2,
        model=str(write_model(tmp_path / "model", LABEL_TABLES["abdomen_mri"])),
    )
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(BUNDLE / "configs" / "metadata.json"),
            config_file=str(BUNDLE / "configs" / "inference.yaml"),
            device="cpu",
            model=str(write_model(tmp_path / "other")),
        )
