"""MONAI Label's data store of a folder, made so that neither a crash nor a careless request loses anything."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from monai.data import MetaTensor
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException
from swin_umamba.cases import LABEL_NAME
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder, replace_file
from swin_umamba.models import file_sha256
from swin_umamba.transforms import CheckVolumed

from monailabel_app.history import History
from monailabel_app.infer import load_volume
from monailabel_app.meanings import label_values

logger = logging.getLogger(__name__)

EXTENSIONS = ("*.nii.gz", "*.nii", "*.nrrd")
TAGS = (DefaultLabelTag.FINAL.value, DefaultLabelTag.ORIGINAL.value)
NAME = re.compile(r"\w[\w.\-+:,;#&@=() ]{0,127}")  # 3D Slicer calls a DICOM series "6: T2 HASTE (cor)"
GRID_TOLERANCE = 0.01  # mm between the corners of an image and of its label


class SafeDatastore(LocalDatastore):
    """A folder of images and, in `labels/`, their label maps.

    Labels are checked against their image, kept in the history first and then replaced atomically; the list of
    everything, `datastore_v2.json`, is replaced as a whole, and made anew from the files when it cannot be read. It is
    read again before it is changed, under a lock, because a batch changes it in a process of its own.

    Args:
        folder: of the images.
        history: keeps what is submitted and tells who changed what.
        auto_reload: watch the folder for files that come and go.
    """

    def __init__(self, folder: str | os.PathLike, history: History, auto_reload: bool = True) -> None:
        self.history = history
        self._list_lock = FileLock(make_writable_folder(folder) / ".lock")  # a thread may take it twice
        self._config_ts = 0.0
        self._set_aside_broken_list(Path(folder) / "datastore_v2.json")
        super().__init__(str(folder), extensions=EXTENSIONS, auto_reload=auto_reload)

    def knows(self, image_id: str) -> bool:
        """Tell whether there is such an image."""
        return image_id in self._datastore.objects

    def check_send(self, image_id: str) -> None:
        """Check that an automatic result may go into the PACS.

        Raises:
            InputError: always; a folder of files has none.
        """
        raise InputError("send_to_pacs: legal: false; this server's images are files of a folder")

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add an image once it could be read.

        Raises:
            InputError: if the name is no plain one, is taken, or the file is no image.
        """
        name, extension = self._to_id(os.path.basename(image_filename))
        image_id = check_name("image", image_id or name)
        read_volume(image_filename, "image")
        with self._list_lock:
            self._init_from_datastore_file()
            if image_id in self._datastore.objects:
                raise InputError(f"image {image_id!r} is there already; choose another name, or delete it first")
            target = Path(self._datastore.image_path()) / self._filename(image_id, extension)
            with replace_file(target) as path:
                shutil.copyfile(image_filename, path)
            info = {**(image_info or {}), "ts": int(time.time()), "name": target.name}
            self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=extension))
            self._update_datastore_file()
        self.history.tell("add image", image=image_id, by=_who(image_info))
        return image_id

    def remove_image(self, image_id: str) -> None:
        """Remove an image and its labels; the labels stay in the history."""
        self._existing(image_id)
        super().remove_image(image_id)
        self.refresh()
        self.history.tell("remove image", image=image_id)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Store a label map; what was there before stays in the history.

        Args:
            image_id: of the image.
            label_filename: on the image's grid, whole numbers.
            label_tag: "final" (by a person) or "original" (by a model).
            label_info: "label_info" [{"name", "idx"}] says what the values mean; "client_id" who sent it.

        Raises:
            ImageNotFoundException: if there is no such image.
            InputError: for another tag, a file that is no label map, or one on another grid.
        """
        self._existing(image_id)
        tag = str(getattr(label_tag, "value", label_tag))
        if tag not in TAGS:
            raise InputError(f"tag {tag!r}: legal: {', '.join(TAGS)}")
        info = dict(label_info or {})
        check_label(label_filename, self.get_image_uri(image_id), info)
        digest = self.history.keep(image_id, label_filename, {"tag": tag, **info})
        extension = self._to_id(os.path.basename(label_filename))[1]
        target = Path(self._datastore.label_path(tag)) / self._filename(image_id, extension)
        with self._list_lock:
            self._init_from_datastore_file()
            image = self._existing(image_id)
            before = image.labels.get(tag)
            with replace_file(target) as path:
                shutil.copyfile(label_filename, path)
            if before is not None and before.ext != extension:
                Path(self.get_label_uri(image_id, tag)).unlink(missing_ok=True)  # it is in the history
            info.update(ts=int(time.time()), name=target.name)
            image.labels[tag] = DataModel(info=info, ext=extension)
            self._update_datastore_file()
        about = {"model": info.get("model"), "model_version": info.get("model_version")}
        self.history.tell("save label", image=image_id, tag=tag, by=_who(info), digest=digest, **about)
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label; it stays in the history."""
        file = self.get_label_uri(label_id, label_tag)
        if not file:
            raise LabelNotFoundException(f"Label {label_id!r} with tag {label_tag!r} not found")
        self.history.keep(label_id, file, {"tag": str(label_tag), **self.get_label_info(label_id, label_tag)})
        super().remove_label(label_id, label_tag)
        self.refresh()
        self.history.tell("remove label", image=label_id, tag=str(label_tag))

    def label_meaning(self, image_id: str, tag: str = DefaultLabelTag.FINAL.value) -> dict[str, Any]:
        """Return what is known of a label: by its content, or else by the data store's list."""
        file = self.get_label_uri(image_id, tag)
        return self.history.info_of(image_id, file) or self.get_label_info(image_id, tag)

    def sample_info(self, image_id: str) -> dict[str, Any]:
        """Return what 3D Slicer needs to open an image: "path", or else "name" and "checksum" of what it downloads.

        It keeps what it has downloaded by that name alone, so without the checksum it would take another server's image
        of the same name for this one.

        Raises:
            ImageNotFoundException: if the file is gone.
        """
        info = self.get_image_info(image_id)
        try:
            state = os.stat(info["path"])
        except OSError as error:
            raise ImageNotFoundException(f"Image {image_id!r} is not in the folder any more") from error
        digest = _sha256_of(info["path"], state.st_mtime_ns, state.st_size)
        return {"name": Path(info["path"]).name, "checksum": f"SHA256:{digest}", **info}

    def _existing(self, image_id: str) -> Any:
        if image_id not in self._datastore.objects:
            raise ImageNotFoundException(f"Image {image_id!r} not found")
        return self._datastore.objects[image_id]

    def _list_files(self, path: str, patterns: Sequence[str]) -> dict[str, str]:
        """Leave out hidden files and, among the images, those that are called like a label map."""
        files = super()._list_files(path, patterns)
        images = path == self._datastore.image_path()
        return {
            name: file
            for name, file in files.items()
            if not name.startswith(".") and not (images and LABEL_NAME.search(self._to_id(name)[0]))
        }

    def _reconcile_datastore(self) -> None:
        """Bring the list and the files together while nobody else changes either."""
        with self._list_lock:
            super()._reconcile_datastore()

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """Take over what another process has written."""
        with self._list_lock:
            path = Path(self._datastore_config_path)
            if not path.is_file() or path.stat().st_mtime == self._config_ts:
                return
            try:
                found = LocalDatastoreModel.model_validate_json(path.read_text(encoding="utf-8"))
            except ValueError:
                if throw_exception:
                    raise
                logger.exception("%s cannot be read; what is known already stays", path.name)
                return
            found.base_path = self._datastore_path
            self._datastore, self._config_ts = found, path.stat().st_mtime

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Replace the list as a whole, so that a reader or a crash never meets half of it."""
        with self._list_lock:
            self._ignore_event_config = True
            plain = self._datastore.model_dump(exclude={"base_path"})
            with replace_file(self._datastore_config_path) as path:
                path.write_text(json.dumps(plain, indent=1, default=str), encoding="utf-8")
            self._config_ts = os.stat(self._datastore_config_path).st_mtime

    @staticmethod
    def _set_aside_broken_list(path: Path) -> None:
        if not path.is_file():
            return
        try:
            json.loads(path.read_text(encoding="utf-8"))["objects"]
        except (ValueError, KeyError, TypeError):
            aside = path.with_suffix(f".broken-{int(time.time())}")
            logger.warning("%s cannot be read; it is kept as %s and made anew from the files", path, aside.name)
            os.replace(path, aside)


def check_name(what: str, name: str) -> str:
    """Return a name that is plain: no path, nothing hidden.

    Raises:
        InputError: for anything else.
    """
    if not NAME.fullmatch(name) or ".." in name:
        raise InputError(
            f"{what} {name!r}: legal: up to 128 letters, digits, spaces, .-_+:,;#&@=(); a letter or digit first, no .."
        )
    return name


def read_volume(file: str, what: str) -> MetaTensor:
    """Read an image and check its geometry and values.

    Raises:
        InputError: if it is none of ours.
    """
    check = CheckVolumed(keys="image")
    try:
        return check({"image": load_volume(file)})["image"]
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what}: {Path(file).name} cannot be read: {' '.join(str(error).split())[:200]}") from error


def check_label(label_file: str, image_file: str, info: Mapping[str, Any]) -> None:
    """Check that a label map belongs to an image and that its values are explained.

    Raises:
        InputError: for another grid, values that are no whole numbers from 0 to 255, or values that "label_info" does
            not name although it is there.
    """
    label = read_volume(label_file, "label")
    image = load_volume(image_file)
    if label.shape != image.shape:
        raise InputError(f"label: its shape {tuple(label.shape[1:])} is not the image's, {tuple(image.shape[1:])}")
    corners = np.array(np.meshgrid(*[(0, side) for side in image.shape[1:]])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    distance = np.abs((label.affine.numpy() - image.affine.numpy()) @ corners)[:3].max()
    if not distance <= GRID_TOLERANCE:
        raise InputError(f"label: it lies up to {distance:.3g} mm away from the image; legal: the image's own geometry")
    values = np.unique(np.asarray(label))
    if not np.array_equal(values, values.astype(np.uint8)):
        raise InputError(f"label: values {values[:5].tolist()}…; legal: whole numbers from 0 to 255")
    names = label_values(info)
    unknown = sorted(set(values.astype(int).tolist()) - {0} - set(names))
    if names and unknown:
        raise InputError(f"label: values {unknown} are not in label_info, which names {sorted(names)}")


@functools.lru_cache(maxsize=10000)
def _sha256_of(file: str, changed: int, size: int) -> str:
    """Return the digest of a file, from memory while it has not changed."""
    return file_sha256(file)


def _who(info: Mapping[str, Any] | None) -> str:
    return str((info or {}).get("client_id") or (info or {}).get("user") or "unknown")
