"""Networks by name: the only place that holds the sizes of the named variants."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from swin_umamba.errors import InputError
from swin_umamba.networks import monai_networks
from swin_umamba.networks.swin_umamba import SwinUMamba
from swin_umamba.networks.swin_umamba_d import SwinUMambaD
from swin_umamba.networks.u_mamba import UMamba
from swin_umamba.networks.vm_unet import VMUNet


@dataclass(frozen=True)
class Variant:
    """A network, as a class or a function that builds it, and the arguments that make it this variant."""

    network: Callable[..., nn.Module]
    sizes: dict[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        """Names of the arguments that a caller may give."""
        return list(inspect.signature(self.network).parameters)


NETWORKS: dict[str, Variant] = {
    # the published networks: 59.9 and 27.5 million parameters
    "swin_umamba": Variant(SwinUMamba, {"embed_dim": 96, "depths": (2, 2, 9, 2)}),
    "swin_umamba_d": Variant(SwinUMambaD, {"embed_dim": 96, "depths": (2, 2, 9, 2)}),
    # for training on a CPU within minutes
    "swin_umamba_small": Variant(SwinUMamba, {"embed_dim": 32, "depths": (2, 2, 2, 2), "drop_path_rate": 0.1}),
    "swin_umamba_d_small": Variant(SwinUMambaD, {"embed_dim": 32, "depths": (2, 2, 2, 2), "drop_path_rate": 0.1}),
    # for tests within seconds
    "swin_umamba_tiny": Variant(SwinUMamba, {"embed_dim": 16, "depths": (1, 1, 1, 1), "drop_path_rate": 0.0}),
    "swin_umamba_d_tiny": Variant(
        SwinUMambaD, {"embed_dim": 16, "depths": (1, 1, 1, 1), "decoder_depth": 1, "drop_path_rate": 0.0}
    ),
    # what they are compared with, in the sizes of the published tables
    "vm_unet": Variant(VMUNet, {"embed_dim": 96, "depths": (2, 2, 2, 2), "decoder_depths": (2, 2, 2, 1)}),
    "u_mamba_bot": Variant(UMamba, {"every_stage": False}),
    "u_mamba_enc": Variant(UMamba, {"every_stage": True}),
    "dynunet": Variant(monai_networks.dynunet),
    "segresnet": Variant(monai_networks.segresnet, {"init_filters": 32}),
    "unetr": Variant(monai_networks.unetr, {"img_size": 320}),
    "swin_unetr": Variant(monai_networks.swin_unetr, {"feature_size": 48}),
}
REQUIRED = ("in_channels", "out_channels")


def network_names() -> list[str]:
    """Return the names that `build_network` knows."""
    return list(NETWORKS)


def build_network(name: str, **arguments: Any) -> nn.Module:
    """Build the network called `name`.

    Args:
        name: one of `network_names()`.
        arguments: those of its class; `in_channels` and `out_channels` are needed, others replace the variant's own.

    Returns:
        The network, freshly initialised, in training mode.

    Raises:
        InputError: if the name or an argument is unknown, missing, or out of its range.

    Example::

        >>> from swin_umamba.networks import build_network
        >>> network = build_network("swin_umamba_d_tiny", in_channels=1, out_channels=5)
    """
    if name not in NETWORKS:
        close = difflib.get_close_matches(str(name), network_names(), n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise InputError(f"unknown network {name!r}{hint}; the networks are {', '.join(network_names())}")
    variant = NETWORKS[name]
    unknown = [key for key in arguments if key not in variant.arguments]
    if unknown:
        legal = ", ".join(variant.arguments)
        raise InputError(f"{name} has no argument {', '.join(map(repr, unknown))}; it takes {legal}")
    missing = [key for key in REQUIRED if key not in arguments]
    if missing:
        raise InputError(f"{name} needs {' and '.join(missing)}")
    return variant.network(**{**variant.sizes, **arguments})
