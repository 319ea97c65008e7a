"""The list of a folder's images and labels, brought up to date with its files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from monailabel.datastore.local import DataModel, ImageLabelModel

Split = Callable[[str], tuple[str, str]]


def files_in(folder: str | Path, suffixes: tuple[str, ...]) -> list[str]:
    """Return the names of the files with one of these suffixes that lie in a folder itself, without hidden ones."""
    with os.scandir(folder) as entries:
        named = [entry for entry in entries if entry.name.endswith(suffixes) and not entry.name.startswith(".")]
        return [entry.name for entry in named if entry.is_file()]


def brought_up_to_date(
    objects: Mapping[str, ImageLabelModel], images: Collection[str], labels: Mapping[str, Collection[str]], split: Split
) -> dict[str, ImageLabelModel] | None:
    """Return a new list: without what is gone, with what is new. Who reads the old one meanwhile sees all of it.

    Args:
        objects: the list, {image: what is known of it}; nothing in it is changed.
        images: names of the image files.
        labels: {tag: names of the label files}.
        split: gives name and suffix of a file.

    Returns:
        None if nothing has changed.
    """
    present = dict(map(split, images))
    found = {tag: dict(map(split, files)) for tag, files in labels.items()}
    there = {tag: set(files) for tag, files in labels.items()}
    files = set(images)
    kept = {image: entry for image, entry in objects.items() if f"{image}{entry.image.ext}" in files}
    result = {}
    for image in {**kept, **present}:
        entry = kept.get(image) or ImageLabelModel(image=_new(image, present[image]))
        after = {tag: label for tag, label in entry.labels.items() if f"{image}{label.ext}" in there.get(tag, ())}
        after |= {tag: _new(image, named[image]) for tag, named in found.items() if image in named and tag not in after}
        same = after.keys() == entry.labels.keys() and all(after[tag] is entry.labels[tag] for tag in after)
        result[image] = entry if same else ImageLabelModel(image=entry.image, labels=after)
    unchanged = result.keys() == objects.keys() and all(result[image] is objects[image] for image in result)
    return None if unchanged else result


def is_hidden(path: str | os.PathLike, folder: str | os.PathLike) -> bool:
    """Tell whether a path below a folder is hidden, or lies in what is: our own state, and files on their way."""
    return any(part.startswith(".") for part in Path(os.path.relpath(path, folder)).parts if part != os.pardir)


def _new(name: str, suffix: str) -> DataModel:
    return DataModel(info={"ts": int(time.time()), "name": name + suffix}, ext=suffix)
