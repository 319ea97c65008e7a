"""Going through many cases when some of them are broken: those are recorded, and the others go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.data import Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.utils import ensure_tuple

from swin_umamba.case_warnings import collect_case_warnings
from swin_umamba.confidence import OrganConfidence
from swin_umamba.devices import choose_device
from swin_umamba.distributed import gather_cases, is_rank_zero
from swin_umamba.errors import InputError, input_error_of

logger = logging.getLogger(__name__)

FAILURES_SHOWN = 3  # in the line that a run with failures ends with


class CaseDataset(Dataset):
    """MONAI's `Dataset` whose items never raise: a case that cannot be loaded becomes a record of why.

    An item gets "case" (its name), "input" (what to call its input), "case_warnings" (lines of text) and "load_seconds"
    beside what the transform gives; one that was skipped or failed has "skipped" or "failure", the reason, instead of
    the latter.

    Args:
        data: items of `swin_umamba.cases.find_cases` or of a data list; one with "skipped" or "failure" stays so.
        transform: loads and prepares an item.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], transform: Callable | None = None) -> None:
        super().__init__(data, transform)

    def _transform(self, index: int) -> dict[str, Any]:
        item, start = self.data[index], time.perf_counter()
        messages: list[str] = []
        record = {"case": case_name(item), "input": str(item.get("input") or case_name(item))}
        for verdict in ("skipped", "failure"):
            if verdict in item:
                return {**record, verdict: item[verdict]}
        try:
            with collect_case_warnings(messages):
                loaded = super()._transform(index)
        except Exception as error:
            return {**record, "failure": _reason(error, item), "case_warnings": "\n".join(messages)}
        seconds = time.perf_counter() - start
        return {**loaded, **record, "case_warnings": "\n".join(messages), "load_seconds": seconds}


class CaseEvaluator(SupervisedEvaluator):
    """MONAI's evaluator for one case at a time: a case that fails is recorded and the others go on.

    Of several processes each goes through its own cases; in the end all have the records of all.

    Volumes stay in the host's memory; the inferer sends what it needs to the network's device.

    Args:
        device: that the network is on; a name or None as in `swin_umamba.devices.choose_device`.
        val_data_loader: over a `CaseDataset`, with batches of one.
        network: segments slices.
        writer: called with the case's name, image and label map; what it returns goes into the record.
        confidence: of the inferer; its result for each case goes into the record.
        about: plain data that every record gets, such as the model's name and version.
        kwargs: further arguments of `SupervisedEvaluator`.
    """

    def __init__(
        self,
        device: torch.device | str | None,
        val_data_loader: Any,
        network: torch.nn.Module,
        *,
        writer: Callable[[str, MetaTensor, MetaTensor], Mapping[str, Any]] | None = None,
        confidence: OrganConfidence | None = None,
        about: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("prepare_batch", keep_on_host)
        super().__init__(choose_device(device), val_data_loader, network, **kwargs)
        self.writer, self.confidence = writer, confidence
        self.about = dict(about or {})
        self.records: list[dict[str, Any]] = []

    @property
    def failed(self) -> list[dict[str, str]]:
        """The cases that failed so far, as {"case", "error"}."""
        return [
            {"case": record["case"], "error": record["reason"]}
            for record in self.records
            if record["status"] == "failed"
        ]

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]  # as MONAI's own evaluator
        """Go through all cases.

        Raises:
            InputError: at the end, when everything else was done, if any case failed; of several processes in the
                first.
        """
        self.records = []
        if self.state.epoch_length == 0:  # fewer cases than processes: there is a report all the same
            self.fire_event(Events.STARTED)
            self.fire_event(Events.COMPLETED)
        else:
            super().run(global_epoch)
        self.records = gather_cases(self.records)
        failed = self.failed
        if failed and is_rank_zero():
            shown = "; ".join(f"{case['case']}: {case['error']}" for case in failed[:FAILURES_SHOWN])
            more = f"; and {len(failed) - FAILURES_SHOWN} more" if len(failed) > FAILURES_SHOWN else ""
            tried = sum(record["status"] != "skipped" for record in self.records)
            raise InputError(f"{len(failed)} of {tried} cases failed: {shown}{more}")

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> Any:
        start = time.perf_counter()
        names = batchdata["case"]
        if len(names) != 1:
            raise InputError(f"batch of {len(names)} cases; legal is batch_size 1, volumes differ in size")
        messages = [line for line in batchdata.get("case_warnings", [""])[0].split("\n") if line]
        record = {"case": names[0], "input": batchdata["input"][0], "status": "ok", "reason": "", "warnings": messages}
        if "skipped" in batchdata:
            record.update(status="skipped", reason=batchdata["skipped"][0])
        elif "failure" in batchdata:
            record.update(status="failed", reason=batchdata["failure"][0])
        else:
            self._segment(engine, batchdata, record)
            record["seconds"] = round(time.perf_counter() - start + float(batchdata["load_seconds"][0]), 3)
        if record["status"] != "ok":  # nothing for the handlers of this iteration to look at
            engine.state.batch, engine.state.output = [], []
        self.records.append({**record, **self.about})
        _log(record, len(self.records), engine.state.epoch_length)
        return engine.state.output

    def _segment(self, engine: SupervisedEvaluator, batchdata: dict[str, Any], record: dict[str, Any]) -> None:
        """Segment, postprocess and write one case, and put what comes of it into its record."""
        try:
            with collect_case_warnings(record["warnings"]):
                super()._iteration(engine, batchdata)
                if self.confidence is not None:
                    record["confidence"] = self.confidence.result()
                if self.writer is not None:
                    item, output = engine.state.batch[0], engine.state.output[0]
                    record.update(self.writer(record["case"], item["image"], output["pred"]))
        except Exception as error:
            record.update(status="failed", reason=_reason(error, {"input": record["input"]}))


def keep_on_host(
    batchdata: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Any, Any]:
    """Return a batch's image and label as they are: whole volumes do not go to the device."""
    return batchdata["image"], batchdata.get("label")


def case_name(item: Mapping[str, Any]) -> str:
    """Return what a case is called: its "case", or its image's file name without the suffix."""
    return str(item.get("case") or Path(str(ensure_tuple(item["image"])[0])).name.split(".")[0])


def _reason(error: Exception, item: Mapping[str, Any]) -> str:
    """Return why a case failed, in one line without the path of the data; log the traceback of what is a bug."""
    cause = input_error_of(error)
    if cause is None:
        logger.error("unexpected error", exc_info=error)
        origin: BaseException = error
        while origin.__cause__ is not None:
            origin = origin.__cause__
        text = f"{type(origin).__name__}: {origin}"
    else:
        text = str(cause)
    if isinstance(item.get("image"), tuple):  # a DICOM series: its path may name the patient
        for file in item["image"]:
            text = text.replace(file, "a file of the series").replace(str(Path(file).parent), "its folder")
    elif "input" in item:
        text = text.replace(str(item.get("image")), item["input"])
    return " ".join(text.split())


def _log(record: Mapping[str, Any], number: int, total: int | None) -> None:
    level = logging.ERROR if record["status"] == "failed" else logging.INFO
    what = record["reason"] or f"{record.get('seconds', 0):.1f} s"
    logger.log(level, "%d/%s %s: %s, %s", number, total or "?", record["case"], record["status"], what)
    for message in record["warnings"]:
        logger.warning("%s: %s", record["case"], message)
