"""Learning from corrections, by the bundle's own training config; what is served changes only when it is no worse."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import device_list
from swin_umamba.devices import choose_device
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder
from swin_umamba.installation import overlay_folder
from swin_umamba.workflows import evaluate_model, run_workflow

from monailabel_app.cases import write_datalist
from monailabel_app.datastore import SafeDatastore
from monailabel_app.processes import BUSY, lower_priority
from monailabel_app.segmenter import device_name, flag_of
from monailabel_app.settings import AppSettings
from monailabel_app.versions import ModelStore, Version

logger = logging.getLogger(__name__)

OVERLAY = "finetune.yaml"
RUNS_KEPT = 3  # folders with logs and data lists of earlier trainings
MAX_EPOCHS = 10000


class FineTuneTask(TrainTask):
    """Train the served version of a model further on all cases with a final label, and keep the result as a version.

    A request may hold "max_epochs", "device", "iterations_per_epoch", "learning_rate" and "promote": "if not worse"
    (the default: served at once if its mean Dice on the held-out patients is at least that of the served version) or
    "never". Without held-out patients the new version waits for a person to promote it.

    Args:
        name: of the model.
        store: of its versions.
        settings: of the app.
    """

    def __init__(self, name: str, store: ModelStore, settings: AppSettings) -> None:
        super().__init__(f"Learn from corrected labels, starting with the served version of {name}")
        self.name, self.store, self.settings = name, store, settings
        self.folder = settings.data_dir / "training" / name
        self.progress_file = self.folder / "progress.json"

    def config(self) -> dict[str, Any]:
        """Return what clients may set."""
        return {"device": device_list(), "max_epochs": 20, "promote": ["if not worse", "never"]}

    def stats(self) -> dict[str, Any]:
        """Return the progress of the present, or the last, training, as 3D Slicer's module reads it.

        It multiplies "best_metric", so that is left out as long as nothing was validated; here it is the metric of the
        last epoch, whose weights are kept, and not the highest. And it takes a training that has a "total_time" for one
        that is over, so until the last epoch the time goes by "seconds" alone.
        """
        try:
            progress = json.loads(self.progress_file.read_text(encoding="utf-8"))
            seconds = progress.pop("total_time")
            progress["best_metric"] = progress.pop("metric", None)
            if progress["epoch"] >= progress["total_epochs"]:
                progress["total_time"] = seconds
            return {"seconds": seconds, **{key: value for key, value in progress.items() if value is not None}}
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return {}

    def forget_progress(self) -> None:
        """Tell nothing of an earlier training any more; a process that is starting needs seconds until it tells."""
        self.progress_file.unlink(missing_ok=True)

    def last_progress(self) -> float:
        """Return when the present, or the last, training made its last progress, in seconds since 1970; 0 for never."""
        try:
            return self.progress_file.stat().st_mtime
        except OSError:
            return 0.0

    def __call__(self, request: Mapping[str, Any], datastore: SafeDatastore) -> dict[str, Any]:
        """Train.

        Returns:
            The new version's "version", "served", and its record.

        Raises:
            InputError: for an illegal option, or if no labelled case can be used. What is served is untouched.
        """
        options = check_options(request)
        lower_priority(BUSY)
        try:
            with FileLock(make_writable_folder(self.folder) / ".lock", timeout=0):
                return self._learn(options, datastore)
        except Timeout as error:
            raise InputError(f"train: {self.name} is being trained already, started by an earlier server") from error

    def _learn(self, options: Mapping[str, Any], datastore: SafeDatastore) -> dict[str, Any]:
        served = self.store.served(self.name)
        self.forget_progress()
        stamp = f"{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() // 10**6 % 1000:03d}"  # two may begin in one second
        run = make_writable_folder(self.folder / f"run-{stamp}")
        cases = write_datalist(datastore, served.spec.labels, self.settings, run)
        logger.info("%d cases to learn from, %d held out", len(cases["training"]), len(cases["validation"]))
        start = time.perf_counter()
        self._train(served, cases, options, run)
        record = {
            "origin": "learnt from corrections",
            "base": served.spec.version,
            "seconds": round(time.perf_counter() - start, 1),
            "max_epochs": options["max_epochs"],
            **{key: cases[key] for key in ("training", "validation", "left_out", "warnings")},
            **self._compare(served, cases, run, options["device"]),
        }
        version = self.store.add(self.name, run / "model", record)
        served_now = options["promote"] == "if not worse" and record["not_worse"] is True
        if served_now:
            dice = record["dice"]
            why = f"mean Dice on {len(cases['validation'])} held-out cases {dice['new']} against {dice['served']}"
            self.store.promote(self.name, version.spec.version, by="training", why=why)
        self._clean_up()
        result = {"version": version.spec.version, "served": served_now, **record}
        logger.info("training finished: %s", json.dumps(result))
        return result

    def _train(self, served: Version, cases: Mapping[str, Any], options: Mapping[str, Any], run: Path) -> None:
        spec = served.spec
        known = spec.training.get("images")  # a few cases alone would make most images look unfamiliar
        images = {"known_images": known} if known else {"training_images": None}
        overrides = {
            "datalist": cases["datalist"],
            "model_dir": str(run / "model"),
            "output_dir": str(run / "log"),
            "progress_file": str(self.progress_file),
            "checkpoint": str(served.folder / "model.pt"),
            "device_name": options["device"],
            "model_name": self.name,
            "model_version": spec.version,
            "description": spec.description,
            "licence": spec.licence,
            "training_data": f"{spec.training.get('data', 'unknown')}; and corrected labels",
            "labels": dict(spec.labels),
            "network_name": spec.network["name"],
            "network_arguments": {"in_channels": 1, **spec.network.get("arguments", {})},
            "spacing": list(spec.spacing) if spec.spacing else None,
            "roi_size": list(spec.roi_size),
            "validate_during_training": bool(cases["validation"]),
            "train#trainer#max_epochs": options["max_epochs"],
            **images,
            **{key: options[key] for key in ("iterations_per_epoch", "learning_rate") if key in options},
        }
        run_workflow(
            ["train.yaml", str(overlay_folder() / OVERLAY)],
            bundle_root=self.settings.bundle_root,
            kind="train",
            **overrides,
        )

    def _compare(self, served: Version, cases: Mapping[str, Any], run: Path, device: str) -> dict[str, Any]:
        """Score both versions on the held-out cases, as inference runs them."""
        if not cases["validation"]:
            return {"dice": None, "not_worse": None}
        dice = {}
        for key, folder in (("served", served.folder), ("new", run / "model")):
            metrics = evaluate_model(
                bundle_root=self.settings.bundle_root,
                model=folder,
                datalist=cases["datalist"],
                output_dir=run / key,
                section="validation",
                device=device,
                picture=False,
            )
            dice[key] = metrics["mean"]["dice"]
        scored = None not in dice.values()
        return {"dice": dice, "not_worse": dice["new"] >= dice["served"] if scored else None}

    def _clean_up(self) -> None:
        runs = sorted(self.folder.glob("run-*"))
        for run in runs[:-RUNS_KEPT]:
            shutil.rmtree(run, ignore_errors=True)
        for run in runs[-RUNS_KEPT:]:  # several times the model's size, and of use only to go on with the training
            shutil.rmtree(run / "log" / "checkpoints", ignore_errors=True)


def check_options(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a request for training.

    Raises:
        InputError: naming the option and what is legal.
    """
    epochs = _number(request, "max_epochs", 20, int, 1, MAX_EPOCHS)
    promote = request.get("promote", "if not worse")
    promote = promote[0] if isinstance(promote, list) and promote else promote
    if promote not in ("if not worse", "never"):
        raise InputError(f"promote {promote!r}: legal: 'if not worse', 'never'")
    device = str(choose_device(device_name(request.get("device") or "auto")))
    options: dict[str, Any] = {"max_epochs": epochs, "promote": promote, "device": device}
    if "iterations_per_epoch" in request:
        options["iterations_per_epoch"] = _number(request, "iterations_per_epoch", 50, int, 1, 100000)
    if "learning_rate" in request:
        options["learning_rate"] = _number(request, "learning_rate", 1e-4, float, 0.0, 1.0)
    flag_of(request, "enqueue")
    return options


def _number(request: Mapping[str, Any], name: str, default: Any, kind: type, low: float, high: float) -> Any:
    value = request.get(name, default)
    try:
        number = kind(value)
        legal = not isinstance(value, bool) and number == float(value) and low <= number <= high
    except (TypeError, ValueError):
        legal = False
    if not legal:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"{name} {value!r}: legal: {what} from {low:g} to {high:g}")
    return number
