"""The networks: Swin-UMamba, Swin-UMamba-dagger, and named variants of both."""

from swin_umamba.networks.registry import NETWORKS, build_network, network_names
from swin_umamba.networks.swin_umamba import SwinUMamba
from swin_umamba.networks.swin_umamba_d import SwinUMambaD

__all__ = ["NETWORKS", "SwinUMamba", "SwinUMambaD", "build_network", "network_names"]
