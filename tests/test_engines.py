from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor
from swin_umamba.case_warnings import CaseWarning, collect_case_warnings, warn_of_case
from swin_umamba.engines import CaseDataset, CaseEvaluator
from swin_umamba.errors import InputError
from torch import Tensor, nn


class Count(nn.Module):
    """Stands for a network; the inferer below does not call it."""


def infer(inputs: Tensor, network: nn.Module) -> Tensor:
    value = float(inputs.max())
    if value == 13:
        raise RuntimeError("the network cannot bear 13")
    if value == 5:
        warn_of_case("five is doubtful")
    return MetaTensor(torch.full_like(inputs, value).byte(), meta=inputs.meta)


def load(item: dict[str, Any]) -> dict[str, Any]:
    if item["image"] == "missing":
        raise InputError("missing does not exist; legal: a file")
    if isinstance(item["image"], tuple):
        raise OSError(f"cannot open {item['image'][0]} in {Path(item['image'][0]).parent}")
    if item["image"] == "bug":
        return {"image": 1 / 0}
    if item["image"] == "3":
        warn_of_case("three is odd")
    return {**item, "image": MetaTensor(torch.full((1, 2, 2, 2), float(item["image"])))}


def evaluator(images: list[Any], writer: Callable | None = None, **more: Any) -> CaseEvaluator:
    data = [image if isinstance(image, dict) else {"case": f"case{image}", "image": image} for image in images]
    loader = DataLoader(CaseDataset(data, load), batch_size=1, num_workers=0)
    return CaseEvaluator("cpu", loader, Count(), inferer=infer, writer=writer, **more)


def test_cases_are_recorded_and_written_in_order() -> None:
    written = []

    def writer(case: str, image: MetaTensor, labels: MetaTensor) -> dict[str, Any]:
        written.append((case, image.shape, int(labels.max())))
        return {"output": f"{case}.nii.gz"}

    engine = evaluator(["1", "2"], writer, about={"model": "m"})
    engine.run()
    assert written == [("case1", (1, 2, 2, 2), 1), ("case2", (1, 2, 2, 2), 2)]
    assert [record.pop("seconds") >= 0 for record in engine.records] == [True, True]
    assert engine.records[1] == {
        "case": "case2",
        "input": "case2",
        "status": "ok",
        "reason": "",
        "warnings": [],
        "output": "case2.nii.gz",
        "model": "m",
    }
    assert engine.failed == []


def test_broken_cases_are_recorded_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    def writer(case: str, image: MetaTensor, labels: MetaTensor) -> dict[str, Any]:
        seen.append(case)
        if case == "case4":
            raise OSError(28, "No space left on device")
        return {}

    engine = evaluator(["1", "missing", "bug", "13", "4", "6"], writer)
    with caplog.at_level(logging.ERROR), pytest.raises(InputError) as caught:
        engine.run()
    assert seen == ["case1", "case4", "case6"]
    assert [record["status"] for record in engine.records] == ["ok", "failed", "failed", "failed", "failed", "ok"]
    assert engine.failed == [
        {"case": "casemissing", "error": "missing does not exist; legal: a file"},
        {"case": "casebug", "error": "ZeroDivisionError: division by zero"},
        {"case": "case13", "error": "RuntimeError: the network cannot bear 13"},
        {"case": "case4", "error": "OSError: [Errno 28] No space left on device"},
    ]
    message = str(caught.value)
    assert message.startswith("4 of 6 cases failed: casemissing: missing does not exist; legal: a file; casebug: ")
    assert message.endswith("; and 1 more")
    assert 'return {"image": 1 / 0}' in caplog.text  # the traceback of a bug; that of bad input is not logged
    assert caplog.text.count("unexpected error") == 3


def test_handlers_see_nothing_of_a_broken_case() -> None:
    seen = []

    class Handler:
        def attach(self, engine: CaseEvaluator) -> None:
            engine.add_event_handler(
                Events.ITERATION_COMPLETED, lambda: seen.append((len(engine.state.batch), len(engine.state.output)))
            )

    with pytest.raises(InputError, match="1 of 2 cases failed"):
        evaluator(["missing", "2"], val_handlers=[Handler()]).run()
    assert seen == [(0, 0), (1, 1)]


def test_skipped_cases_are_no_failures() -> None:
    engine = evaluator([{"case": "scout", "input": "DICOM series scout", "skipped": "one slice alone"}, "2"])
    engine.run()
    assert [(record["status"], record["reason"]) for record in engine.records] == [
        ("skipped", "one slice alone"),
        ("ok", ""),
    ]


def test_remarks_of_loading_and_of_inference_reach_the_record_of_their_case() -> None:
    engine = evaluator(["3", "5", "1"])
    engine.run()
    assert [record["warnings"] for record in engine.records] == [["three is odd"], ["five is doubtful"], []]


def test_names_of_dicom_files_stay_out_of_the_reason() -> None:
    files = ("/data/DOE^JANE/IM0001", "/data/DOE^JANE/IM0002")
    engine = evaluator([{"case": "mr_1", "input": "DICOM series mr_1", "image": files}])
    with pytest.raises(InputError) as caught:
        engine.run()
    assert "DOE" not in str(caught.value)
    assert engine.failed[0]["error"] == "OSError: cannot open a file of the series in its folder"


def test_item_of_a_data_list_without_a_name_is_called_like_its_file() -> None:
    assert CaseDataset([{"image": "missing"}], load)[0]["case"] == "missing"


def test_second_run_starts_anew() -> None:
    engine = evaluator(["1"])
    engine.run()
    engine.run()
    assert len(engine.records) == 1


def test_absent_device_is_refused() -> None:
    with pytest.raises(InputError, match="legal here: auto, cpu"):
        CaseEvaluator("tpu", [], Count())


def test_remarks_outside_of_a_case_are_warnings() -> None:
    with pytest.warns(CaseWarning, match="odd"):
        warn_of_case("odd")
    messages: list[str] = []
    with collect_case_warnings(messages):
        warn_of_case("odd")
        warn_of_case("odd")
    assert messages == ["odd"]
