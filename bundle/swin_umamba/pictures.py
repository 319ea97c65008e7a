"""A picture of one segmented case, for a person to judge at a glance, in the radiological convention."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from monai.data import MetaTensor
from skimage.segmentation import find_boundaries

from swin_umamba.data.labels import organ_colour
from swin_umamba.transforms import spacing_of

FILL, OUTLINE = 0.35, 1.0  # opacity of an organ and of its edge
WINDOW = (1.0, 99.5)  # percentiles of the intensities that are drawn black and white
PICTURE_DPI = 110
COMPRESSION = 3  # of PNG, 0 to 9: these pictures become smaller than with 6, in half the time
LARGEST_PHOTOGRAPH = 1600  # pixels of the longer side as it is drawn
SIDE = 512  # pixels of the longer side of each view
SAMPLES = 200_000  # voxels that the percentiles are taken from
VIEWS = {  # (axis that is cut across, axes along the picture's columns and rows, marks left, right, top, bottom)
    "axial": (2, (0, 1), "RLAP"),
    "coronal": (1, (0, 2), "RLSI"),
    "sagittal": (0, (1, 2), "APSI"),
}


def draw_case(
    case: str,
    image: MetaTensor,
    labels: MetaTensor,
    organs: Mapping[str, int],
    volumes: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Draw the axial slice that shows most organs, and a coronal and a sagittal one through the largest organ.

    The patient's right is on the picture's left, and letters say so.

    Args:
        case: title.
        image: (1, X, Y, Z) in RAS.
        labels: label map (1, X, Y, Z) in RAS on the same grid.
        organs: organ -> id.
        volumes: organ -> {"ml"}, for the legend.
    """
    grey, found = image.cpu().numpy()[0], labels.cpu().numpy()[0].astype(np.uint8)  # (X, Y, Z)
    spacing = spacing_of(labels.affine)
    window = np.percentile(grey.ravel()[:: max(1, grey.size // SAMPLES)], WINDOW)
    colours = _colours(organs)
    figure = Figure(figsize=(12, 7), layout="constrained", facecolor="black")
    parts = figure.subplot_mosaic(
        [["axial", "coronal", "legend"], ["axial", "sagittal", "legend"]], width_ratios=[3, 2, 1]
    )
    for (view, (cut, plane, marks)), place in zip(VIEWS.items(), slices_to_show(found, organs.values()), strict=True):
        sides = (spacing[plane[0]], spacing[plane[1]])
        parts[view].set_title(f"{view} {place + 1}/{grey.shape[cut]}", color="white", fontsize=9)
        parts[view].imshow(on_screen(grey.take(place, cut), sides), cmap="gray", vmin=window[0], vmax=window[1])
        parts[view].imshow(_tinted(on_screen(found.take(place, cut), sides), colours), interpolation="nearest")
        _mark(parts[view], marks)
    present = {organ: f"{organ}: {volumes[organ]['ml']:.1f} mL" for organ in organs if volumes[organ]["voxels"]}
    _legend(parts["legend"], present, organs, colours)
    figure.suptitle(f"{case}   (radiological view; for research, not for clinical use)", color="white", fontsize=10)
    return figure


def save_picture(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure as PNG, the same pixels as `Figure.savefig`, which draws twice to know its size."""
    figure.set_dpi(PICTURE_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    options = {"compress_level": COMPRESSION}
    imsave(path, canvas.buffer_rgba(), format="png", dpi=PICTURE_DPI, pil_kwargs=options)


def draw_photograph(
    case: str,
    pixels: np.ndarray,
    labels: np.ndarray,
    names: Mapping[str, int],
    areas: Mapping[str, int],
    objects: np.ndarray | None = None,
) -> Figure:
    """Draw a photograph with its labels, or with the outline of each object.

    Args:
        case: title.
        pixels: (rows, columns) or (rows, columns, 3), of any type.
        labels: label map (rows, columns).
        names: label -> id.
        areas: label -> pixels, for the legend.
        objects: numbered from 1 (rows, columns).
    """
    step = max(1, round(max(labels.shape) / LARGEST_PHOTOGRAPH))
    shown, found = _as_drawn(pixels[::step, ::step]), labels[::step, ::step]
    colours = _colours(names)
    figure = Figure(figsize=(12, 7), layout="constrained", facecolor="black")
    parts = figure.subplot_mosaic([["photograph", "legend"]], width_ratios=[5, 1])
    parts["photograph"].imshow(shown, cmap="gray")
    if objects is None:
        layer = _tinted(found, colours)
    else:
        edges = find_boundaries(objects[::step, ::step], mode="inner")
        layer = np.concatenate([colours[found], edges[..., None].astype(float)], axis=-1)  # (row, column, 4)
    parts["photograph"].imshow(layer, interpolation="nearest")
    parts["photograph"].set_axis_off()
    total = labels.size
    present = {name: f"{name}: {areas[name] / total:.1%}" for name in names if areas[name]}
    _legend(parts["legend"], present, names, colours)
    count = "" if objects is None else f", {int(objects.max(initial=0))} objects"
    figure.suptitle(f"{case}{count}   (for research, not for clinical use)", color="white", fontsize=10)
    return figure


def _as_drawn(pixels: np.ndarray) -> np.ndarray:
    """Return a photograph as values from 0 to 1; one of more than 8 bits is stretched between two percentiles."""
    if pixels.dtype == np.uint8:
        return pixels / 255
    low, high = np.percentile(pixels, WINDOW)
    return np.clip((pixels - low) / max(float(high - low), 1e-9), 0, 1)


def _colours(organs: Mapping[str, int]) -> np.ndarray:
    """Return the colours (256, 3) of label ids, 0 to 1."""
    colours = np.zeros((256, 3))
    for organ, value in organs.items():
        colours[value] = np.array(organ_colour(organ)) / 255
    return colours


def slices_to_show(labels: np.ndarray, ids: Iterable[int]) -> tuple[int, int, int]:
    """Return the indices of the axial, coronal and sagittal slice of a label map (X, Y, Z) that tell most.

    The axial one shows most organs and, among such slices, most of them; the others go through the middle of the
    largest organ. Without an organ all three are the middle ones.

    Args:
        labels: label map in RAS.
        ids: of the organs.
    """
    ids = list(ids)
    counts = np.array([(labels == value).sum(axis=(0, 1)) for value in ids])  # (organs, Z)
    if not counts.any():
        return (labels.shape[2] // 2, labels.shape[1] // 2, labels.shape[0] // 2)
    axial = max(range(labels.shape[2]), key=lambda z: (np.count_nonzero(counts[:, z]), counts[:, z].sum()))
    largest = labels == ids[int(counts.sum(axis=1).argmax())]
    return (axial, _middle(largest.sum(axis=(0, 2))), _middle(largest.sum(axis=(1, 2))))


def _middle(profile: np.ndarray) -> int:
    """Return the index that has half of a profile on either side."""
    return int(np.searchsorted(np.cumsum(profile), profile.sum() / 2))


def on_screen(plane: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0), side: int = SIDE) -> np.ndarray:
    """Turn a slice (a, b) of a RAS volume into a picture (row, column) of square pixels, voxels enlarged as they are.

    Both axes run against the screen: R or A is on the left, A or S at the top.

    Args:
        plane: (a, b).
        spacing: of a and b in mm.
        side: pixels of the picture's longer side.
    """
    extent = [n * mm for n, mm in zip(plane.shape, spacing, strict=True)]
    size = [max(1, round(side * length / max(extent))) for length in extent]
    a, b = (np.arange(pixels) * n // pixels for pixels, n in zip(size, plane.shape, strict=True))
    return plane[::-1, ::-1][np.ix_(a, b)].T  # (a, b) -> (row, column)


def _tinted(labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return label ids (row, column) as red, green, blue and opacity: faint inside, plain along the edge."""
    padded = np.pad(labels, 1)
    inner = np.ones(labels.shape, dtype=bool)
    for shift in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inner &= padded[shift[0] : shift[0] + labels.shape[0], shift[1] : shift[1] + labels.shape[1]] == labels
    opacity = np.where(labels == 0, 0.0, np.where(inner, FILL, OUTLINE))
    return np.concatenate([colours[labels], opacity[..., None]], axis=-1)  # (row, column, 4)


def _mark(axis, marks: str) -> None:
    """Write the letters of the patient's sides at the left, right, top and bottom of a view."""
    places = [(0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center")]
    places += [(0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom")]
    for letter, (x, y, horizontal, vertical) in zip(marks, places, strict=True):
        text = axis.text(
            x, y, letter, color="yellow", ha=horizontal, va=vertical, transform=axis.transAxes, weight="bold"
        )
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])
    axis.set_axis_off()


def _legend(axis, present: Mapping[str, str], organs: Mapping[str, int], colours: np.ndarray) -> None:
    """Write what was found, organ -> text, with its colour."""
    axis.set_axis_off()
    patches = [Patch(color=colours[organs[organ]], label=text) for organ, text in present.items()]
    if patches:
        axis.legend(handles=patches, loc="center left", fontsize=8, frameon=False, labelcolor="white")
    else:
        axis.text(0, 0.5, "no organ found", color="white")
