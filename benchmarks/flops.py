"""Print parameters and FLOPs of the networks beside the published table.

    python benchmarks/flops.py [--names swin_umamba swin_umamba_d] [--cases AbdomenMR Endoscopy Microscopy]

fvcore, batch 1, deep supervision on, one multiply-add = 1, scans as 9 B L D N + B L D.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from swin_umamba.networks import build_network, network_names  # noqa: E402
from swin_umamba.networks.flops import count_flops  # noqa: E402

CASES = {"AbdomenMR": (1, 14, 320, 320), "Endoscopy": (3, 8, 384, 640), "Microscopy": (3, 3, 512, 512)}
PUBLISHED = {
    ("swin_umamba", "AbdomenMR"): "60M 68.0G",
    ("swin_umamba", "Endoscopy"): "60M 163.6G",
    ("swin_umamba", "Microscopy"): "60M 174.4G",
    ("swin_umamba_d", "AbdomenMR"): "28M 18.9G",
    ("swin_umamba_d", "Endoscopy"): "28M 45.3G",
    ("swin_umamba_d", "Microscopy"): "27M 48.2G",
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=["swin_umamba", "swin_umamba_d"], choices=network_names())
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    given = parser.parse_args()
    print(f"{'network':22}{'case':12}{'parameters':>12}{'GFLOPs':>10}{'scan':>8}  published")
    for name in given.names:
        for case in given.cases:
            in_channels, out_channels, *size = CASES[case]
            network = build_network(name, in_channels=in_channels, out_channels=out_channels)
            parameters = sum(p.numel() for p in network.parameters())
            flops = count_flops(network, torch.zeros(1, in_channels, *size))
            published = PUBLISHED.get((name, case), "")
            print(
                f"{name:22}{case:12}{parameters:12,}{flops['total'] / 1e9:10.3f}{flops['scan'] / 1e9:8.3f}  {published}"
            )


if __name__ == "__main__":
    main()
