"""What the values of a label map mean: names that came with it, against the organs of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from monai.data import MetaTensor
from swin_umamba.data.labels import organ_name
from swin_umamba.errors import InputError

MOST_VALUES = 255  # of a label map, beside the background


def label_values(info: Mapping[str, Any]) -> dict[int, str]:
    """Return what the values of a submitted label mean, {value: name}; empty if the client did not say.

    Raises:
        InputError: if "label_info" is there and is not a list of {"name", "idx"} with different values.
    """
    entries = info.get("label_info")
    if entries is None:
        return {}
    try:
        names = {int(entry["idx"]): str(entry["name"]) for entry in entries}
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f'label_info: legal: a list of {{"name": …, "idx": …}}, not {str(entries)[:80]!r}') from error
    if len(names) != len(entries) or min(names, default=1) < 1:
        raise InputError(f"label_info: every idx must be there once and be 1 or more, not {sorted(names)}")
    return names


def label_info(labels: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return {organ: id} as clients send it, [{"name", "idx"}]."""
    return [{"name": organ, "idx": number} for organ, number in labels.items()]


def map_by_name(label: MetaTensor, names: Mapping[int, str], labels: Mapping[str, int]) -> tuple[MetaTensor, list[str]]:
    """Return a label map in a model's ids, and the names that the model does not know, which become background.

    Args:
        label: as submitted; viewers number segments in the order of their list, not as the model does.
        names: what its values mean.
        labels: the model's {organ: id}.
    """
    known = {organ_name(organ): number for organ, number in labels.items()}
    table = torch.zeros(256, dtype=torch.uint8)
    strangers = []
    for value, name in names.items():
        number = known.get(organ_name(name))
        if number is None:
            strangers.append(name)
        else:
            table[value] = number
    return MetaTensor(table[label.as_tensor().long()], meta=label.meta), strangers


def add_names(labels: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """Return a model's {organ: id}, and behind it what else there is by name.

    Raises:
        InputError: if there are more than a label map can hold.
    """
    result = dict(labels)
    for name in names:
        if organ_name(name) not in {organ_name(organ) for organ in result}:
            result[name] = len(result) + 1
    if len(result) > MOST_VALUES:
        raise InputError(f"label: {len(result)} segments; legal: up to {MOST_VALUES}")
    return result


def with_model_ids(
    label: MetaTensor, info: Mapping[str, Any], labels: Mapping[str, int]
) -> tuple[MetaTensor, dict[str, int]]:
    """Return a label map whose organs have the model's ids, and {name: id} of all; nothing that was drawn is left out.

    Args:
        label: whole numbers from 0 to 255.
        info: "label_info" [{"name", "idx"}] says what its values mean; without it they are the model's ids.
        labels: the model's {organ: id}; what it does not know gets ids behind them.

    Raises:
        InputError: if there is more than a label map can hold.
    """
    names = label_values(info) or {number: organ for organ, number in labels.items()}
    values = set(label.unique().int().tolist()) - {0}
    names.update({value: f"unnamed {value}" for value in values - set(names)})
    every = add_names(labels, [name for value, name in sorted(names.items()) if value in values])
    return map_by_name(label, names, every)[0], every
