"""The report of an evaluation: two cases worked by hand (see test_metrics for the bars), files, figure and failures."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib.image import imread
from monai.data import MetaTensor
from swin_umamba import __version__
from swin_umamba.errors import InputError
from swin_umamba.report_files import draw_figure, format_table, write_report
from swin_umamba.reports import EvaluationReport, build_report

LABELS = {"liver": 1, "aorta": 2, "spleen": 3}
TOLERANCES = {"liver": 0.5, "aorta": 2.0, "spleen": 3.0}
SPACING = (1.0, 3.0, 4.0)


def label_map(*bars: tuple[int, int, int, int], file: str = "") -> MetaTensor:
    """Return a label map (1, 8, 5, 5) with bars of four voxels along x; each is (label, x, y, z)."""
    array = torch.zeros(1, 8, 5, 5, dtype=torch.uint8)
    for label, x, y, z in bars:
        array[0, x : x + 4, y, z] = label
    return MetaTensor(array, affine=torch.diag(torch.tensor([*SPACING, 1.0])), meta={"filename_or_obj": file})


CASES = [  # item of the data list, prediction, truth
    (
        {"case": "one", "patient": "p1", "labelled": [1, 3]},
        label_map((1, 2, 1, 1), (3, 1, 3, 3), (2, 1, 0, 0), file="one.nii.gz"),
        label_map((1, 1, 1, 1)),
    ),
    (
        {"case": "two", "labelled": [1, 3]},
        label_map((1, 1, 1, 1), (3, 1, 4, 3)),
        label_map((1, 1, 1, 1), (3, 1, 3, 3)),
    ),
]


def run(cases, output_dir, **arguments) -> EvaluationReport:
    """Run the handler on an engine that gives the cases one by one, as MONAI's decollated evaluators do."""

    def step(engine: Engine, batch: tuple) -> list[dict]:
        item, prediction, truth = batch
        engine.state.batch = [item]
        return [{"pred": prediction, "label": truth}]

    engine = Engine(step)
    engine.failed = [{"case": "three", "error": "the image is 2D"}] if arguments.pop("with_failure", False) else []
    handler = EvaluationReport(
        output_dir=output_dir, labels=LABELS, tolerances=TOLERANCES, model={"name": "toy"}, **arguments
    )
    handler.attach(engine)
    engine.run(cases)
    return handler


def rounded(value):
    """Return JSON data with floats cut to 5 digits."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


# liver: Dice 0.75 and 1, NSD 36.5 / 43 and 1; spleen: only in the second truth, Dice 0, NSD 1 (3 mm off, 3 mm allowed);
# the first prediction holds 4 voxels of 12 mm³ of it; aorta is not annotated
GOLDEN = {
    "mean": {"dice": 0.4375, "nsd": 0.96221},
    "organs": {
        "liver": {
            "dice": {"mean": 0.875, "std": 0.17678, "n": 2},
            "nsd": {"mean": 0.92442, "std": 0.10689, "n": 2},
        },
        "spleen": {
            "dice": {"mean": 0.0, "std": None, "n": 1},
            "nsd": {"mean": 1.0, "std": None, "n": 1},
        },
    },
    "cases": [
        {
            "case": "one",
            "patient": "p1",
            "image": "one.nii.gz",
            "organs": {"liver": {"dice": 0.75, "nsd": 0.84884}, "spleen": {"dice": None, "nsd": None}},
            "false_positive_ml": {"spleen": 0.048},
            "spacing_mm": [1.0, 3.0, 4.0],
        },
        {
            "case": "two",
            "image": "",
            "organs": {"liver": {"dice": 1.0, "nsd": 1.0}, "spleen": {"dice": 0.0, "nsd": 1.0}},
            "false_positive_ml": {},
            "spacing_mm": [1.0, 3.0, 4.0],
        },
    ],
    "failed": [],
    "rules": "standard",
    "tolerances_mm": TOLERANCES,
    "model": {"name": "toy"},
    "data": {"section": "test"},
    "code_version": __version__,
}


def test_golden_metrics_json(tmp_path):
    handler = run(CASES, tmp_path, data={"section": "test"})
    written = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert written == handler.report
    definitions = written.pop("definitions")
    assert set(definitions) == {"mean", "std", "null", "nsd", "false_positive_ml"}
    assert rounded(written) == GOLDEN
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["metrics.csv", "metrics.json", "metrics.png"]


def test_a_second_run_starts_anew(tmp_path):
    handler = run(CASES, tmp_path)
    first = handler.report
    handler.start(None)
    assert handler.cases == []
    assert run(CASES, tmp_path).report == first


def test_csv_has_a_row_per_case_and_organ(tmp_path):
    run(CASES, tmp_path)
    with (tmp_path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["case", "patient", "organ", "dice", "nsd", "false_positive_ml"]
    assert rows[0][:4] == ["one", "p1", "liver", "0.75"]
    assert float(rows[0][4]) == pytest.approx(36.5 / 43, abs=1e-6)
    assert rows[0][5] == ""
    assert rows[1:] == [
        ["one", "p1", "spleen", "", "", "0.048"],
        ["two", "", "liver", "1.0", "1.0", ""],
        ["two", "", "spleen", "0.0", "1.0", ""],
    ]


def test_printed_table(tmp_path, capsys):
    run(CASES, tmp_path, with_failure=True)
    assert capsys.readouterr().out.splitlines() == [
        "rules: standard; DSC and NSD as mean ± std over n cases",
        "organ           DSC              NSD              n",
        "-" * 51,
        "liver           0.8750 ± 0.1768  0.9244 ± 0.1069  2",
        "spleen          0.0000           1.0000           1",
        "-" * 51,
        "mean of organs  0.4375           0.9622",
        "one: predicted, but not in the truth: spleen 0.05 mL",
        "three: failed: the image is 2D",
    ]


def test_rules_of_the_paper_reach_the_report(tmp_path):
    report = run(CASES, tmp_path, rules="paper").report
    assert report["rules"] == "paper"
    assert report["cases"][0]["organs"]["liver"]["nsd"] == 0.8488
    assert report["organs"]["spleen"]["dice"] == {"mean": 0.0, "std": 0.0, "n": 2}  # 0 where only predicted


def test_oblique_and_permuted_grids_use_their_own_spacing(tmp_path):
    """The second case with the axes in another order and a flip: the same scores."""
    item, prediction, truth = CASES[1]
    affine = torch.tensor([[0.0, 1.0, 0, 5], [0, 0, -3, 6], [4, 0, 0, 7], [0, 0, 0, 1]])
    turned = [MetaTensor(m.as_tensor().permute(0, 3, 1, 2), affine=affine) for m in (prediction, truth)]
    report = run([(item, *turned)], tmp_path).report
    assert report["cases"][0]["organs"] == {"liver": {"dice": 1.0, "nsd": 1.0}, "spleen": {"dice": 0.0, "nsd": 1.0}}
    assert report["cases"][0]["spacing_mm"] == [4.0, 1.0, 3.0]


def test_a_case_that_cannot_be_scored_is_listed_and_the_rest_is_written(tmp_path):
    broken = ({"case": "broken"}, label_map((1, 1, 1, 1)), label_map((9, 1, 1, 1)))
    with pytest.raises(InputError, match="1 cases could not be scored: broken: truth holds the value 9"):
        run([CASES[0], broken, CASES[1]], tmp_path)
    report = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert [case["case"] for case in report["cases"]] == ["one", "two"]
    assert [case["case"] for case in report["failed"]] == ["broken"]
    assert rounded(report["mean"]) == GOLDEN["mean"]


def test_no_scores_is_an_error_and_writes_nothing(tmp_path):
    nothing = ({"case": "empty"}, label_map(), label_map())
    with pytest.raises(InputError, match="no scores: none of 1 cases .* liver, aorta, spleen"):
        run([nothing], tmp_path)
    with pytest.raises(InputError, match="three failed: the image is 2D"):
        run([nothing], tmp_path, with_failure=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"rules": "strict"}, "standard, paper"), ({"tolerances": {"hart": 1}}, "hart")],
)
def test_wrong_settings_are_refused_before_the_first_case(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        EvaluationReport(output_dir=tmp_path, labels=LABELS, **changed)


def test_nan_is_never_written(tmp_path):
    cases = [{"case": "a", "organs": {"liver": {"dice": float("nan"), "nsd": 1.0}}, "false_positive_ml": {}}]
    report = build_report(cases, labels=LABELS, tolerances=TOLERANCES, rules="standard")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(tmp_path, report)
    assert list(tmp_path.iterdir()) == []


def test_figure_shows_every_score(tmp_path):
    random = np.random.default_rng(0)
    organs = ("liver", "inferior vena cava", "spleen")
    cases = [
        {
            "case": str(index),
            "organs": {
                organ: {"dice": random.uniform(), "nsd": random.uniform()} for organ in organs[: 1 + index // 2]
            },
            "false_positive_ml": {},
        }
        for index in range(6)
    ]
    report = build_report(cases, labels=LABELS, tolerances=TOLERANCES, rules="standard", model={"name": "toy"})
    panels = draw_figure(report).axes
    assert [len(panel.collections) for panel in panels] == [3, 3]
    drawn = sorted(x for points in panels[0].collections for x in points.get_offsets()[:, 0])
    assert drawn == sorted(scores["dice"] for case in cases for scores in case["organs"].values())
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert names == ["liver (6)", "inferior vena cava (4)", "spleen (2)"]
    write_report(tmp_path, report)
    pixels = imread(tmp_path / "metrics.png")[..., :3]
    assert pixels.shape[0] > 300
    assert 0.005 < (pixels.min(axis=-1) < 0.7).mean() < 0.5  # ink, but mostly paper
    assert "spleen" in format_table(report)
