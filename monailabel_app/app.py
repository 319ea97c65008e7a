"""The app: which models, trainings and strategies a server offers."""

from __future__ import annotations

import copy
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.config import settings as server_settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.exception import ImageNotFoundException
from swin_umamba import __version__
from swin_umamba.errors import InputError
from swin_umamba.label_maps import DISCLAIMER
from swin_umamba.models import ModelSpec

from monailabel_app.batch import BatchSegmentation
from monailabel_app.datastore import SafeDatastore, check_label
from monailabel_app.history import History
from monailabel_app.infer import SegmentationTask
from monailabel_app.meanings import label_info
from monailabel_app.pacs.connection import is_url
from monailabel_app.pacs.datastore import SEND, PacsDatastore
from monailabel_app.pacs.keeper import Keeper
from monailabel_app.pacs.opening import open_pacs
from monailabel_app.segmenter import flag_of
from monailabel_app.settings import TEMPORARY, AppSettings
from monailabel_app.strategies import First, RandomImage, Uncertainty
from monailabel_app.train import FineTuneTask
from monailabel_app.uncertainty import METHOD, Background, Uncertainties, UncertaintyScoring
from monailabel_app.versions import ModelStore
from monailabel_app.worklist import Worklist

logger = logging.getLogger(__name__)

NO_MODEL = (
    "No model is installed: put a folder with model.pt and model.yaml into models/, or train one "
    "(python -m monai.bundle run training …, which writes bundle/models), and start the server again."
)
NO_IMAGE = "No image is there yet: put .nii.gz, .nii or .nrrd files into the folder, or upload them from 3D Slicer."
HALF_A_SESSION, SESSIONS_PERIOD = 600.0, 300.0  # seconds
TASK_PROCESS = "monailabel.interfaces.utils.app"  # of MONAI Label, in which trainings and batches run
GUARD = "monailabel_app.server"


class SwinUMambaApp(MONAILabelApp):
    """Serve every model found, from `models/<name>/` and from what training wrote into the bundle.

    Args:
        app_dir: folder of `main.py`.
        studies: folder of images, or URL of a DICOMweb server.
        conf: settings, see `monailabel_app.settings`.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, Any]) -> None:
        _refuse_without_guard()
        self.settings = AppSettings.from_conf(studies, conf)
        self.history = History(self.settings.data_dir)
        self.store = ModelStore(self.settings.model_folders, self.settings.data_dir)
        self.worklist = Worklist(self.settings.data_dir)
        self.uncertainties = Uncertainties(self.settings.data_dir)
        self.names = sorted(self.store.installed())
        if not self.names:
            logger.warning("%s", NO_MODEL)
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name="Swin-UMamba for abdominal MRI",
            description=DISCLAIMER if self.names else NO_MODEL,
            version=__version__,
        )
        self._auto_update_scoring = False

    def init_datastore(self) -> Any:
        """Return the store of a folder or of a PACS."""
        if is_url(self.studies):
            return open_pacs(self.studies, self.settings.data_dir, self.history, self._spec, self._organs)
        if not Path(self.studies).is_dir():
            raise InputError(f"studies {self.studies!r}: no such folder")
        reload = server_settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD
        return SafeDatastore(self.studies, self.history, auto_reload=reload)

    def _spec(self, name: str | None) -> ModelSpec:
        """Return the description of the served version of a model, or of the first one."""
        if not self.names:
            raise InputError("no model is installed, so segments have no names")
        return self.store.served(name if name in self.names else self.names[0]).spec

    def _organs(self) -> set[str]:
        return {organ for name in self.names for organ in self.store.served(name).spec.labels}

    def init_infers(self) -> dict[str, SegmentationTask]:
        """Return a task for each model."""
        return {name: SegmentationTask(name, self.store, self.settings) for name in self.names}

    def init_trainers(self) -> dict[str, FineTuneTask]:
        """Return a training for each model."""
        return {name: FineTuneTask(name, self.store, self.settings) for name in self.names}

    def init_strategies(self) -> dict[str, Any]:
        """Return the ways to choose the next image."""
        return {
            "first": First(self.worklist),
            "random": RandomImage(self.worklist),
            "uncertainty": Uncertainty(self.worklist, self.uncertainties),
        }

    def init_scoring_methods(self) -> dict[str, UncertaintyScoring]:
        """Return what works out uncertainties, with the model that was chosen for it.

        Raises:
            InputError: if there is no such model.
        """
        name = self.settings.uncertainty_model
        if name is None and self.names and Path(self.studies).is_dir():  # a PACS holds more than anyone will label
            name = self.names[0]
        if name in (None, "none"):
            return {}
        if name not in self._infers:
            raise InputError(f"uncertainty_model {name!r}: legal: none, {', '.join(self.names)}")
        return {METHOD: UncertaintyScoring(self._infers[name], self.uncertainties)}

    def init_batch_infer(self) -> BatchSegmentation:
        """Return what segments many images."""
        return BatchSegmentation(self.store, self.settings.data_dir)

    def infer(self, request: Mapping[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Segment an image of the data store, or an uploaded file.

        Raises:
            UnknownModel: for a model that is not installed.
            ImageNotFoundException: for an id that the data store does not know.
            InputError: for an image or option that cannot be used.
        """
        options = copy.deepcopy(dict(request))
        task = self._infers.get(options.get("model"))
        if task is None:
            raise self.store.unknown(options.get("model"))
        store = datastore or self.datastore()
        image = str(options.get("image") or "")
        known, send = store.knows(image), flag_of(options, SEND)
        if send:
            store.check_send(image)
        if known:
            options["image"] = store.get_image_uri(image)
            if options.get("slices") and "label" not in options:
                options |= _label_of(store, image)
        elif not (os.path.isabs(image) and os.path.exists(image)):
            raise ImageNotFoundException(f"Image {image!r} not found")
        if options.get("slices") and options.get("label"):
            check_label(options["label"], options["image"], options)
        file, result = task(options)
        tag = "original" if send else options.get("label_tag", "original")
        if known and (options.get("save_label") or send):
            about = {"model": task.name, "model_version": result["model_version"], "params": result}
            about |= {"label_info": label_info(result["labels"]), **({SEND: True} if send else {})}
            store.save_label(image, file, tag, about)
            if send:
                result = {**result, "pacs": store.sending(image, tag)}
        return {"label": file, "tag": tag, "file": file, "params": result}

    def info(self) -> dict[str, Any]:
        """Return what clients show; without a model, what to do; "left_out" says why some models are not served."""
        about: dict[str, Any] = {"description": DISCLAIMER if self.names else NO_MODEL, "note": DISCLAIMER}
        about |= {"left_out": self.store.left_out()}
        return {**super().info(), **about, "train_stats": self.training_stats(self._trainers)}

    @staticmethod
    def training_stats(trainers: Mapping[str, FineTuneTask]) -> dict[str, Any]:
        """Return the progress of each model's training, the latest first: 3D Slicer shows the first and no other."""
        latest = sorted(trainers, key=lambda name: trainers[name].last_progress(), reverse=True)
        return {name: trainers[name].stats() for name in latest}

    def on_save_label(self, image_id: str, label_id: str) -> dict[str, Any]:
        """Return, for the answer to who submits a label, whether the PACS has it."""
        store = self.datastore()
        return {"pacs": store.sending(image_id, "final")} if isinstance(store, PacsDatastore) else {}

    def on_init_complete(self) -> None:
        """Clean up, and start what works beside the requests; only a server does, no process of a training."""
        _empty(self.settings.data_dir / TEMPORARY)
        _in_background("sessions", self._clean_sessions)
        if self._infers:
            first = next(iter(self._infers.values()))
            first.load_libraries()  # before anyone is answered, since all would wait
            _in_background("warm-up", _warm_up, first)
        if isinstance(self._datastore, PacsDatastore):
            self.pacs_keeper = Keeper(self._datastore)
            self.pacs_keeper.start()
        if METHOD in self._scoring_methods:
            Background(self._scoring_methods[METHOD], self.datastore).start()
        if not is_url(self.studies) and not self.datastore().list_images():
            logger.warning("%s", NO_IMAGE)

    def _clean_sessions(self) -> None:
        """Remove sessions whose time is over, and what a server that was killed has left of one."""
        while True:
            for folder in Path(self.sessions().store_path).glob("*/"):
                if not (folder / "meta.info").is_file() and time.time() - folder.stat().st_mtime > HALF_A_SESSION:
                    shutil.rmtree(folder, ignore_errors=True)
            try:
                self.cleanup_sessions()
            except Exception:
                logger.exception("sessions could not be cleaned up")
            time.sleep(SESSIONS_PERIOD)


def _refuse_without_guard() -> None:
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    if GUARD not in sys.modules and getattr(main, "name", None) != TASK_PROCESS:
        raise InputError(
            "this app runs behind its guard only: start it by `python -m monailabel_app --studies FOLDER`, or with "
            f"`monailabel start_server … --uvicorn_app {GUARD}:app`"
        )


def _empty(folder: Path) -> None:
    """Remove what a server that was killed had on its way."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _label_of(store: Any, image: str) -> dict[str, Any]:
    """Return "label", the file of the corrected label or else of the automatic one, and "label_info", its meaning."""
    for tag in ("final", "original"):
        file = store.get_label_uri(image, tag)
        if file:
            return {"label": file, "label_info": store.label_meaning(image, tag).get("label_info")}
    return {}


def _in_background(name: str, work: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=work, args=arguments, name=name, daemon=True).start()


def _warm_up(task: SegmentationTask) -> None:
    try:
        task.warm_up()
    except Exception:
        logger.exception("the network could not be warmed up")
