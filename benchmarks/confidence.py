"""Does the confidence fall when the result is bad? Graded corruptions of a section of a data list; prints AUROC.

    python benchmarks/confidence.py --datalist chaos.json --section validation --model models/chaos_mri

Every case is segmented as it is and under corruptions of three or four grades: noise, motion, shading, wrong contrast,
cropped field of view and slices of another region. Each organ that the truth holds is one trial: bad is a Dice below
0.8. The AUROC is the chance that a bad organ has a lower confidence than a good one (ties count half); cases are trials
too, by their mean Dice. Choose on validation cases only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import GaussianSmooth, NormalizeIntensity, RandBiasField
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bundle"), str(ROOT / "benchmarks")]

from contrasts import LOADING, curve, gamma, invert, move, same  # noqa: E402
from swin_umamba.cleanup import CleanLabelsd  # noqa: E402
from swin_umamba.confidence import OrganConfidence  # noqa: E402
from swin_umamba.data import load_datalist  # noqa: E402
from swin_umamba.devices import choose_device, choose_precision  # noqa: E402
from swin_umamba.inferers import AxialSliceInferer  # noqa: E402
from swin_umamba.models import Model, load_model  # noqa: E402

BAD = 0.8  # a Dice below it
Pair = tuple[Tensor, Tensor]  # image and label map, (1, X, Y, Z)


def on_image(change: Callable[..., Tensor], image: Tensor, label: Tensor, regions: dict[str, Tensor]) -> Pair:
    """Change the image and leave the label map."""
    return change(image, regions), label


def noise(deviation: float, image: Tensor, label: Tensor, regions: dict[str, Tensor]) -> Pair:
    """Add Gaussian noise."""
    draw = torch.Generator().manual_seed(0)
    return image + deviation * torch.randn(image.shape, generator=draw), label


def motion(strength: float, image: Tensor, label: Tensor, regions: dict[str, Tensor]) -> Pair:
    """Add ghosts along the second axis, a third of the picture apart, and a blur."""
    ghosts = sum(torch.roll(image, step * image.shape[2] // 3, 2) for step in (1, 2))
    return GaussianSmooth((0.0, 2 * strength, 0.0))(image + strength * (ghosts - image.min())), label


def shading(strength: float, image: Tensor, label: Tensor, regions: dict[str, Tensor]) -> Pair:
    """Put a coil's shading over the volume."""
    transform = RandBiasField(prob=1.0, coeff_range=(0.5 * strength, strength))
    transform.set_random_state(0)
    return transform(image - image.min()), label


def crop(share: float, image: Tensor, label: Tensor, regions: dict[str, Tensor]) -> Pair:
    """Cut a share of the field of view off one side."""
    cut = int(share * image.shape[1])
    return image[:, cut:], label[:, cut:]


def coarse(factor: int, image: Tensor, label: Tensor, regions: dict[str, Tensor]) -> Pair:
    """Make pixels coarser, as of a scout image."""
    small = torch.nn.functional.avg_pool3d(image[None], (factor, factor, 1))
    large = torch.nn.functional.interpolate(small, image.shape[1:], mode="trilinear")[0]
    return large, label


def other_region(start: float, image: Tensor, label: Tensor, regions: dict[str, Tensor]) -> Pair:
    """Keep only the slices above a share of the volume: chest in place of abdomen."""
    cut = int(start * image.shape[3])
    return image[..., cut:], label[..., cut:]


CORRUPTIONS: dict[str, Callable[[Tensor, Tensor, dict[str, Tensor]], Pair]] = {
    "none": partial(on_image, same),
    **{f"noise {value}": partial(noise, value) for value in (0.3, 1.0, 2.0, 4.0)},
    **{f"motion {value}": partial(motion, value) for value in (0.3, 0.6, 1.2)},
    **{f"shading {value}": partial(shading, value) for value in (0.3, 0.8, 2.0)},
    "inverted": partial(on_image, invert),
    "curve 0": partial(on_image, partial(curve, 0)),
    "curve 2": partial(on_image, partial(curve, 2)),
    "gamma 0.2": partial(on_image, partial(gamma, 0.2)),
    "gamma 6": partial(on_image, partial(gamma, 6.0)),
    "organs black": partial(on_image, partial(move, 0.0, ("liver", "spleen", "right kidney", "left kidney"))),
    **{f"cropped {value}": partial(crop, value) for value in (0.2, 0.4)},
    **{f"coarse {value}": partial(coarse, value) for value in (4, 8, 16)},
    **{f"region above {value}": partial(other_region, value) for value in (0.5, 0.75)},
}


def trials(model: Model, item: dict, change: Callable[..., Pair], device: torch.device) -> list[dict[str, Any]]:
    """Segment one corrupted case and return {"organ", "dice", "confidence"} of each organ that it holds."""
    labels = model.spec.labels
    image, label = item["image"].as_tensor(), item["label"].as_tensor()
    regions = {organ: label == number for organ, number in labels.items() if (label == number).any()}
    changed, truth = change(NormalizeIntensity()(image), label, regions)
    volume = MetaTensor(NormalizeIntensity()(changed), affine=item["image"].affine)
    meter = OrganConfidence(labels)
    inferer = AxialSliceInferer(
        roi_size=model.spec.roi_size,
        spacing=model.spec.spacing,
        frame=model.spec.framed,
        amp_dtype=choose_precision("auto", device),
        confidence=meter,
    )
    found = inferer(volume[None], model.network)[0]
    found = CleanLabelsd(labels=labels)({"image": volume, "pred": found})["pred"].as_tensor()
    sure = meter.result()["organs"]
    rows = []
    for organ, number in labels.items():
        mine, true = found == number, truth == number
        if true.any():
            dice = 2 * float((mine & true).sum()) / float(mine.sum() + true.sum())
            rows.append({"organ": organ, "dice": round(dice, 4), "confidence": sure[organ]})
    return rows


def auroc(rows: list[dict[str, Any]]) -> float:
    """Return the chance that a bad trial has a lower confidence than a good one; NaN where one kind is missing."""
    bad = torch.tensor([row["confidence"] for row in rows if row["dice"] < BAD])
    good = torch.tensor([row["confidence"] for row in rows if row["dice"] >= BAD])
    if not len(bad) or not len(good):
        return float("nan")
    return float(((bad[:, None] < good) + 0.5 * (bad[:, None] == good)).mean())


def main() -> None:
    """Segment everything and print Dice, confidence and AUROC."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--datalist", required=True)
    parser.add_argument("--section", default="validation", choices=["training", "validation"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--every", type=int, default=1, help="use every n-th slice only, to save time")
    parser.add_argument("--output", type=Path, help="JSON file for all trials")
    options = parser.parse_args()
    device = torch.device(choose_device(options.device))
    model = load_model(options.model, device)
    rows: list[dict[str, Any]] = []
    for case in load_datalist(options.datalist, options.section, model.spec.labels):
        item = {key: value[..., :: options.every] for key, value in LOADING(case).items() if key in ("image", "label")}
        for name, change in CORRUPTIONS.items():
            about = {"case": case["case"], "corruption": name}
            rows += [{**about, **row} for row in trials(model, item, change, device)]
            if options.output:
                options.output.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    for name in CORRUPTIONS:
        mine = [row for row in rows if row["corruption"] == name]
        means = (sum(row[key] for row in mine) / max(1, len(mine)) for key in ("dice", "confidence"))
        print(f"{name:24}" + "".join(f"{value:10.3f}" for value in means))
    for organ in model.spec.labels:
        mine = [row for row in rows if row["organ"] == organ]
        print(f"AUROC {organ:18}{auroc(mine):10.3f}   {sum(row['dice'] < BAD for row in mine)} bad of {len(mine)}")
    print(f"AUROC {'all organs':18}{auroc(rows):10.3f}   {sum(row['dice'] < BAD for row in rows)} bad of {len(rows)}")


if __name__ == "__main__":
    main()
