"""MONAI Label's data store of a folder, made so that neither a crash nor a careless request loses anything."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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

from monailabel_app.grids import check_lies, turned_like, written
from monailabel_app.history import History
from monailabel_app.inventory import brought_up_to_date, files_in, is_hidden
from monailabel_app.segmenter import load_volume

logger = logging.getLogger(__name__)

SUFFIXES = (".nii.gz", ".nii", ".nrrd")
EXTENSIONS = tuple(f"*{suffix}" for suffix in SUFFIXES)
TAGS = (DefaultLabelTag.FINAL.value, DefaultLabelTag.ORIGINAL.value)
NAME = re.compile(r"\w[\w.\-+:,;#&@=() ]{0,127}")  # 3D Slicer calls a DICOM series "6: T2 HASTE (cor)"


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
        if auto_reload:
            self._handler.on_moved = self._on_any_event  # as rsync and we bring files

    def knows(self, image_id: str) -> bool:
        """Tell whether there is such an image."""
        return image_id in self._datastore.objects

    def ask_for_news(self) -> None:
        """Have it looked soon whether there are other images and labels; a folder tells that by itself."""

    def labels(self) -> dict[str, set[str]]:
        """Return {image: tags of the labels that it has} of all images."""
        return {image: set(entry.labels) for image, entry in tuple(self._datastore.objects.items())}

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
            label_filename: on the image's grid, whole numbers; its axes may be flipped or swapped, and are turned.
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
        label, image = read_volume(label_filename, "label"), load_volume(self.get_image_uri(image_id))
        turned = turned_like(label, image)
        check_lies(label if turned is None else turned, image, info)
        with written(turned, label_filename) as file:
            digest = self.history.keep(image_id, file, {"tag": tag, **info})
            self._put_label(image_id, file, tag, info)
        about = {"model": info.get("model"), "model_version": info.get("model_version")}
        self.history.tell("save label", image=image_id, tag=tag, by=_who(info), digest=digest, **about)
        return image_id

    def _put_label(self, image_id: str, file: str, tag: str, info: dict[str, Any]) -> None:
        """Put a label in the place of the one before, which is in the history."""
        extension = self._to_id(os.path.basename(file))[1]
        target = Path(self._datastore.label_path(tag)) / self._filename(image_id, extension)
        with self._list_lock:
            self._init_from_datastore_file()
            image = self._existing(image_id)
            before = image.labels.get(tag)
            with replace_file(target) as path:
                shutil.copyfile(file, path)
            if before is not None and before.ext != extension:
                Path(self.get_label_uri(image_id, tag)).unlink(missing_ok=True)
            info.update(ts=int(time.time()), name=target.name)
            image.labels[tag] = DataModel(info=info, ext=extension)
            self._update_datastore_file()

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

    def _reconcile_datastore(self) -> None:
        """Bring the list and the files together while nobody else changes either; who reads meanwhile waits for none.

        Files that are called like a label map are no images.
        """
        with self._list_lock:
            self._init_from_datastore_file()
            listed = files_in(self._datastore.image_path(), SUFFIXES)
            images = [name for name in listed if not LABEL_NAME.search(self._to_id(name)[0])]
            folder = Path(self._datastore.label_path(None))
            labels = {place.name: files_in(place, SUFFIXES) for place in folder.iterdir() if place.is_dir()}
            objects = brought_up_to_date(self._datastore.objects, images, labels, self._to_id)
            if objects is not None:
                self._datastore.objects = objects
                self._update_datastore_file()

    def _on_any_event(self, event: Any) -> None:
        """Look again when a file has come, gone or got its name, unless it is none of ours."""
        paths = [path for path in (event.src_path, getattr(event, "dest_path", "")) if path]
        if self._datastore_config_path in paths:
            self._init_from_datastore_file()
        elif not all(is_hidden(path, self._datastore_path) for path in paths):
            self.refresh()

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
                path.write_text(json.dumps(plain, default=str), encoding="utf-8")
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
    """Check that a label map lies as its image and that its values are explained, see `check_lies`."""
    check_lies(read_volume(label_file, "label"), load_volume(image_file), info)


@functools.lru_cache(maxsize=10000)
def _sha256_of(file: str, changed: int, size: int) -> str:
    """Return the digest of a file, from memory while it has not changed."""
    return file_sha256(file)


def _who(info: Mapping[str, Any] | None) -> str:
    return str((info or {}).get("client_id") or (info or {}).get("user") or "unknown")
