"""The data store of a PACS, made of what the environment says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from swin_umamba.errors import InputError
from swin_umamba.models import ModelSpec

from monailabel_app.history import History
from monailabel_app.pacs.cache import SeriesCache
from monailabel_app.pacs.client import PacsClient
from monailabel_app.pacs.connection import PacsConnection
from monailabel_app.pacs.datastore import PacsDatastore
from monailabel_app.pacs.options import DAYS_VARIABLE, FILTER_VARIABLE, SIZE_VARIABLE

DEFAULTS = {DAYS_VARIABLE: "30", SIZE_VARIABLE: "50"}
FOLDER = "pacs"  # in the data directory


def open_pacs(
    url: str,
    data_dir: Path,
    history: History,
    spec_of: Callable[[str | None], ModelSpec],
    organs: Callable[[], Collection[str]],
    environment: Mapping[str, str] = os.environ,
) -> PacsDatastore:
    """Return the data store of a PACS as the environment describes it. The PACS is not asked yet.

    Args:
        url: of its DICOMweb root.
        data_dir: of the app.
        history: of labels.
        spec_of: gives the description of a model by its name, or of the first one for None.
        organs: tells the names of all models' organs.
        environment: holds the variables of `monailabel_app.pacs.options` and `monailabel_app.pacs.connection`.

    Raises:
        InputError: for an illegal value.
    """
    client = PacsClient(PacsConnection.from_environment(url, environment))
    cache = open_cache(data_dir, environment)
    return PacsDatastore(
        client, data_dir / FOLDER, history, spec_of, organs, search_filter=_search_filter(environment), cache=cache
    )


def open_cache(data_dir: Path, environment: Mapping[str, str] = os.environ) -> SeriesCache:
    """Return the copies of series of a data directory.

    Raises:
        InputError: for an illegal limit.
    """
    days, gigabytes = (_positive(environment, name) for name in (DAYS_VARIABLE, SIZE_VARIABLE))
    return SeriesCache(data_dir / FOLDER / "series", days, gigabytes)


def _positive(environment: Mapping[str, str], name: str) -> float:
    text = environment.get(name) or DEFAULTS[name]
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 < number < float("inf"):
        raise InputError(f"{name} {text!r}: legal: a number above 0")
    return number


def _search_filter(environment: Mapping[str, str]) -> dict[str, Any]:
    text = environment.get(FILTER_VARIABLE) or '{"Modality": "MR"}'
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f'{FILTER_VARIABLE} {text!r}: legal: JSON such as {{"Modality": "MR"}}')
    return found
