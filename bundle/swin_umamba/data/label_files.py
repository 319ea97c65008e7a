"""Label tables that come with a data set, as nnU-Net, the Decathlon and people write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from swin_umamba.data.labels import LABEL_TABLES, check_labels, label_table, organ_name
from swin_umamba.errors import InputError


def read_labels(labels: str) -> dict[str, int]:
    """Return the label table {organ: id} that a name or a file stands for.

    Args:
        labels: a name of `LABEL_TABLES`, or a JSON or YAML file with {organ: id} or {id: organ}; "background": 0 may
            be there.

    Raises:
        InputError: if it is neither, or the table is not legal.
    """
    if Path(labels).suffix.lower() not in (".json", ".yaml", ".yml"):
        try:
            return label_table(labels)
        except InputError as error:
            raise InputError(f"--labels: {error}, or a .json or .yaml file {{organ: id}}") from error
    try:
        plain = yaml.safe_load(Path(labels).expanduser().read_text(encoding="utf-8"))  # JSON is YAML
    except OSError as error:
        raise InputError(f"--labels {labels!r} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--labels {labels!r} is neither JSON nor YAML: {error}") from error
    return organ_table(plain, labels)


def organ_table(plain: Any, where: str) -> dict[str, int]:
    """Return {our organ name: id} for what a data set says of its labels.

    Args:
        plain: {organ: id} or {id: organ}; the background may be there.
        where: what to call it in messages.

    Raises:
        InputError: for regions, an "ignore" label, one organ twice, ids that `check_labels` refuses.
    """
    if not isinstance(plain, Mapping) or not plain:
        legal = f"legal is {{organ: id}}, or a name of {', '.join(LABEL_TABLES)}"
        raise InputError(f"{where}: labels are {plain!r}; {legal}")
    table: dict[str, int] = {}
    inverted = all(str(key).strip().isdigit() for key in plain)
    for key, value in plain.items():
        name, number = (value, int(key)) if inverted else (key, value)
        organ = organ_name(str(name))
        if isinstance(number, (list, tuple)):
            raise InputError(f"{where}: label {name!r} is the region {list(number)}; legal is one id for each organ")
        if isinstance(number, str) and number.strip().isdigit():
            number = int(number)
        if organ == "background" or (inverted and number == 0):
            continue
        if organ == "ignore":
            raise InputError(f"{where}: the label 'ignore' ({number}) is not supported; legal are organs")
        if organ in table:
            raise InputError(f"{where}: ids {table[organ]} and {number} are both called {organ!r}")
        table[organ] = number
    return check_labels(table, f"{where}: labels")
