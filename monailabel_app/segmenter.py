"""Segmentation of one image on request, by the bundle's own inference config; knows nothing of MONAI Label."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ComponentLocator, ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd
from swin_umamba.anatomy_checks import warn_of_anatomy
from swin_umamba.case_warnings import collect_case_warnings
from swin_umamba.cases import find_cases
from swin_umamba.cleanup import CleanLabelsd
from swin_umamba.devices import choose_device
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder
from swin_umamba.label_maps import DISCLAIMER, organ_volumes
from swin_umamba.models import mirror_axes
from swin_umamba.transforms import LoadVolumed

from monailabel_app.meanings import with_model_ids
from monailabel_app.results import check_result_options, parse_slices, replace_slices, slices_in_ras, write_result
from monailabel_app.settings import TEMPORARY, AppSettings
from monailabel_app.stopping import watched
from monailabel_app.versions import ModelStore, Version

logger = logging.getLogger(__name__)

PIPELINES_KEPT = 2  # loaded networks: two devices or two versions that alternate
DISPLAYED = (
    "mirror",
    "largest_component",
)  # of the bundle's displayable_configs, those that mean something to a radiologist


class SteadyLocator(ComponentLocator):
    """Finds MONAI's components in the loaded modules, also while another thread of the server loads more of them."""

    def _find_module_names(self) -> list[str]:
        return [name for name in list(sys.modules) if name.startswith(self.MOD_START)]


class Segmenter:
    """Segment a volume, or some of its slices, with the served version of a model.

    A request may hold "image" (path of a file, or of a folder with one DICOM series), "device", "mirror",
    "largest_component", "slices" with "label" (the label map that keeps its other slices) and
    "label_info" (what its values mean, else the model's ids), and "result_extension",
    "result_dtype", "result_compress". One request at a time uses the network; the others wait.

    Args:
        name: of the model.
        store: knows its versions.
        settings: the bundle whose `configs/inference.yaml` is run, the device for requests that name none, and the
            data directory, in which results lie until they are sent.
    """

    def __init__(self, name: str, store: ModelStore, settings: AppSettings) -> None:
        self.name, self.store = name, store
        self.bundle_root, self.device = settings.bundle_root, settings.device
        self.folder = make_writable_folder(settings.data_dir / TEMPORARY)
        self._pipelines: OrderedDict[tuple, ConfigParser] = OrderedDict()
        self._running = threading.Lock()

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Segment.

        Returns:
            Path of a temporary file with the label map, and plain data: "labels" {organ: id}, "label_names" (those of
            them that were found), "volumes" in mL, "confidence", from 0 to 1, "warnings", "model", "model_version",
            "licence", "latencies" in seconds.

        Raises:
            InputError: for an image or an option that cannot be used.
        """
        options = dict(request)
        extension, dtype, compress = check_result_options(options)
        times = _Times()
        messages: list[str] = []
        version = self.store.served(self.name)
        with self._running, collect_case_warnings(messages):
            parser = self.pipeline(version, options)
            times.lap("model")
            labels, names = self._segment(parser, options, version.spec.labels, times)
            confidence = parser.get_parsed_content("confidence").result()
            warn_of_anatomy(labels, names)
        times.lap("post")
        file = write_result(labels, self.folder, extension, dtype, compress)
        times.lap("write")
        volumes = organ_volumes(labels, names)
        return file, {
            "labels": names,
            "label_names": labels_in(volumes, names),
            "volumes": volumes,
            "confidence": confidence,
            "warnings": messages,
            "model": self.name,
            "model_version": version.spec.version,
            "licence": version.spec.licence,
            "note": DISCLAIMER,
            "latencies": times.seconds,
        }

    def load_libraries(self) -> None:
        """Load ITK: for two seconds, or more from a cold disk, nothing else of Python runs meanwhile."""
        file = write_result(MetaTensor(torch.zeros(1, 4, 4, 4), torch.eye(4)), self.folder, ".nrrd", "uint8", False)
        load_volume(file)
        Path(file).unlink()

    def warm_up(self) -> None:
        """Load the network and compile the scan before the first person waits for it."""
        parser = self.pipeline(self.store.served(self.name))
        network = parser.get_parsed_content("network_def")
        with self._running, torch.no_grad():
            network(torch.zeros(1, 1, 64, 64, device=next(network.parameters()).device))

    def _segment(
        self, parser: ConfigParser, options: Mapping[str, Any], organs: Mapping[str, int], times: _Times
    ) -> tuple[MetaTensor, dict[str, int]]:
        """Return the label map of a request and {name: id} of what it may hold, from the model's own organs."""
        preprocessing, postprocessing, inferer, network = (
            parser.get_parsed_content(key) for key in ("preprocessing", "postprocessing", "inferer", "network_def")
        )
        item = preprocessing({"image": find_image(options["image"])})
        times.lap("load")
        image = item["image"]
        part = parse_slices(options.get("slices"), int(image.meta["spatial_shape"][2]))
        asked = None if part is None else slices_in_ras(part, image)
        with torch.no_grad(), watched(network):
            prediction = MetaTensor(torch.zeros(image.shape, dtype=torch.uint8), meta=image.meta)
            where = asked or slice(None)
            prediction[..., where] = inferer(image[None, ..., where], network)[0].as_tensor()
        times.lap("network")
        if part is not None:  # what an organ is like in 3D does not show in some of its slices
            steps = postprocessing.flatten().transforms
            postprocessing = Compose([step for step in steps if not isinstance(step, CleanLabelsd)])
        labels = postprocessing({"image": image, "pred": prediction})["pred"]
        if part is None or not options.get("label"):
            return labels if part is None else replace_slices(labels, part, None), dict(organs)
        before, names = with_model_ids(load_volume(options["label"]), options, organs)
        return replace_slices(labels, part, before), names

    def pipeline(self, version: Version, options: Mapping[str, Any] | None = None) -> ConfigParser:
        """Return the bundle's inference config for a version of the model, its network loaded.

        Raises:
            InputError: for a device or a switch that is none.
        """
        options = options or {}
        device = str(choose_device(device_name(options.get("device") or self.device)))
        shown = {key: flag_of(options, key) for key in DISPLAYED}
        mirror_axes(version.spec, shown["mirror"])
        key = (version.folder, version.spec.sha256, device, *shown.values())
        if key not in self._pipelines:
            parser = ConfigParser()
            parser.locator = SteadyLocator()
            parser.read_config(str(self.bundle_root / "configs" / "inference.yaml"))
            parser.update(
                {
                    "bundle_root": str(self.bundle_root),
                    "model": str(version.folder),
                    "device": device,
                    **{f"displayable_configs#{name}": value for name, value in shown.items()},
                }
            )
            parser.parse()
            parser.get_parsed_content("network_def")
            self._pipelines[key] = parser
            while len(self._pipelines) > PIPELINES_KEPT:
                self._pipelines.popitem(last=False)
        self._pipelines.move_to_end(key)
        return self._pipelines[key]


def find_image(image: Any) -> Any:
    """Return what the bundle's reader takes for one image: a file, or the files of a series.

    Raises:
        InputError: if a path holds no image or several.
    """
    if not isinstance(image, str) or not image:
        raise InputError(f"image {image!r}: legal: the id of an image in the data store, or an uploaded file")
    cases = [case for case in find_cases(image) if "image" in case]
    if len(cases) != 1:
        raise InputError(f"image: {len(cases)} volumes ({', '.join(case['input'] for case in cases[:3])}); legal: one")
    return cases[0]["image"]


def load_volume(image: str) -> MetaTensor:
    """Return one image (1, X, Y, Z), read as the bundle does: a damaged file is an error, whoever else could read it.

    Raises:
        InputError: if it cannot be read.
    """
    item: dict[Any, Any] = {"image": find_image(image)}
    for transform in (LoadVolumed("image"), EnsureChannelFirstd("image")):
        item = transform(item)
    return item["image"]


def labels_in(volumes: Mapping[str, Mapping[str, float]], labels: Mapping[str, int]) -> dict[str, int]:
    """Return {organ: id} of what is in a label map, by rising id.

    3D Slicer gives the n-th name to the n-th value that it finds in the file, so an organ that was not found must not
    be named: each one after it would get the name of the one before.

    Args:
        volumes: of each organ, as `organ_volumes` gives them.
        labels: organ -> id.
    """
    found = [organ for organ in labels if volumes[organ]["voxels"]]
    return {organ: labels[organ] for organ in sorted(found, key=labels.__getitem__)}


def flag_of(options: Mapping[str, Any], name: str) -> bool:
    """Return a switch of a request; clients send booleans or their names.

    Raises:
        InputError: for anything else.
    """
    value = options.get(name, False)
    if isinstance(value, str) and value.lower() in ("true", "false", ""):
        value = value.lower() == "true"
    if not isinstance(value, bool):
        raise InputError(f"{name} {value!r}: legal: true, false")
    return value


def device_name(device: Any) -> str:
    """Return our name of a device; MONAI Label's clients send the first of a list, or "cuda:0 (name of the card)"."""
    name = str(device[0] if isinstance(device, list) and device else device)
    return name.split(" ")[0].lower().removeprefix("nvidia:") or "auto"


class _Times:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 3)
        self._last = now
