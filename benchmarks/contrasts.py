"""Dice of models on a section of a data list whose contrast is changed, in the same ways for every model.

    python benchmarks/contrasts.py --datalist chaos.json --section validation MODEL_FOLDER [MODEL_FOLDER ...]

A way to choose between recipes by how they stand contrasts that nobody has images of; choose on validation cases only.
`iron`, `dark kidneys` and `bright liver` change organs by their label maps; the four curves are random maps of all
intensities; `inverted` turns black and white round. Prints mean Dice by contrast, and writes all with --output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from monai.data import MetaTensor
from monai.metrics import compute_dice
from monai.networks.utils import one_hot
from monai.transforms import (
    AdjustContrast,
    Compose,
    EnsureChannelFirstd,
    GaussianSmooth,
    NormalizeIntensity,
    Orientationd,
    RandBiasField,
)
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from swin_umamba.augmentation import RandIntensityMapd, intensity_range, move_region  # noqa: E402
from swin_umamba.data import load_datalist  # noqa: E402
from swin_umamba.devices import choose_device, choose_precision  # noqa: E402
from swin_umamba.inferers import AxialSliceInferer  # noqa: E402
from swin_umamba.models import Model, load_model  # noqa: E402
from swin_umamba.transforms import CheckPaird, CheckVolumed, LoadVolumed, MapLabelsd  # noqa: E402

KEYS = ("image", "label")
LOADING = Compose(
    [
        LoadVolumed(KEYS),
        EnsureChannelFirstd(KEYS),
        CheckVolumed(KEYS),
        CheckPaird(),
        MapLabelsd("label"),
        Orientationd(KEYS, axcodes="RAS", labels=None),
    ]
)
DARK, BRIGHT, TEXTURE = 0.05, 0.9, 0.4  # where an organ's mean goes in a slice's range; factor of its texture
CURVES = range(4)

Change = Callable[[Tensor, dict[str, Tensor]], Tensor]  # image (1, X, Y, Z), {organ: region} -> image


def same(image: Tensor, regions: dict[str, Tensor]) -> Tensor:
    """Leave the image as it is."""
    return image


def invert(image: Tensor, regions: dict[str, Tensor]) -> Tensor:
    """Turn black and white round."""
    return -image


def gamma(value: float, image: Tensor, regions: dict[str, Tensor]) -> Tensor:
    """Bend the intensities."""
    return AdjustContrast(value)(image)


def curve(seed: int, image: Tensor, regions: dict[str, Tensor]) -> Tensor:
    """Send the intensities through a random curve."""
    transform = RandIntensityMapd("image", prob=1.0, whole=1.0)
    transform.set_random_state(seed)
    return transform({"image": image})["image"]


def move(place: float, organs: tuple[str, ...], image: Tensor, regions: dict[str, Tensor]) -> Tensor:
    """Move the mean of organs to a place in each slice's range of intensities."""
    image = image.clone()
    for name in organs:
        for k in regions[name].any(1).any(1)[0].nonzero().flatten().tolist() if name in regions else []:
            low, high = intensity_range(image[..., k])
            image[..., k] = move_region(image[..., k], regions[name][..., k], low + place * (high - low), TEXTURE)
    return image


def shade(image: Tensor, regions: dict[str, Tensor]) -> Tensor:
    """Put a coil's shading over the volume."""
    transform = RandBiasField(prob=1.0, coeff_range=(0.1, 0.3))
    transform.set_random_state(0)
    return transform(image - image.min())


def blur(image: Tensor, regions: dict[str, Tensor]) -> Tensor:
    """Take away detail in plane."""
    return GaussianSmooth((1.5, 1.5, 0.0))(image)


CONTRASTS: dict[str, Change] = {
    "original": same,
    "iron (dark liver, spleen)": partial(move, DARK, ("liver", "spleen")),
    "dark kidneys": partial(move, DARK, ("right kidney", "left kidney")),
    "bright liver": partial(move, BRIGHT, ("liver",)),
    "inverted": invert,
    **{f"curve {seed}": partial(curve, seed) for seed in CURVES},
    "gamma 0.5": partial(gamma, 0.5),
    "gamma 2": partial(gamma, 2.0),
    "shading": shade,
    "blur": blur,
}


def score(model: Model, items: list[dict], device: torch.device) -> dict[str, dict[str, float]]:
    """Return mean Dice over the cases that hold an organ, by contrast and organ."""
    labels = model.spec.labels
    inferer = AxialSliceInferer(
        roi_size=model.spec.roi_size,
        spacing=model.spec.spacing,
        frame=model.spec.framed,
        amp_dtype=choose_precision("auto", device),
    )
    results = {}
    for name, change in CONTRASTS.items():
        rows = []
        for item in items:
            image, label = item["image"].as_tensor(), item["label"].as_tensor()
            regions = {organ: label == number for organ, number in labels.items() if (label == number).any()}
            changed = NormalizeIntensity()(change(NormalizeIntensity()(image), regions))
            volume = MetaTensor(changed, affine=item["image"].affine)[None].to(device)
            found = inferer(volume, model.network).cpu()
            maps = [one_hot(x, len(labels) + 1) for x in (torch.as_tensor(found), label[None])]
            rows.append(compute_dice(*maps, include_background=False)[0])
        mean = torch.stack(rows).nanmean(0).tolist()
        results[name] = dict(zip(labels, mean, strict=True))
    return results


def main() -> None:
    """Score each model and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="folders with model.pt and model.yaml")
    parser.add_argument("--datalist", required=True)
    parser.add_argument("--section", default="validation", choices=["training", "validation"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, help="JSON file for Dice by model, contrast and organ")
    options = parser.parse_args()

    device = torch.device(choose_device(options.device))
    results = {}
    for folder in options.models:
        model = load_model(folder, device)
        items = [LOADING(case) for case in load_datalist(options.datalist, options.section, model.spec.labels)]
        results[str(folder)] = score(model, items, device)
    print(f"{'mean Dice':28}" + "".join(f"{Path(name).name[-14:]:>16}" for name in results))
    means = {name: {c: sum(o.values()) / len(o) for c, o in table.items()} for name, table in results.items()}
    for contrast in CONTRASTS:
        print(f"{contrast:28}" + "".join(f"{table[contrast]:16.4f}" for table in means.values()))
    changed = [contrast for contrast in CONTRASTS if contrast != "original"]
    row = (sum(table[contrast] for contrast in changed) / len(changed) for table in means.values())
    print(f"{'mean of the changed':28}" + "".join(f"{value:16.4f}" for value in row))
    if options.output:
        options.output.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
