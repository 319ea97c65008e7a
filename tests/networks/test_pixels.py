"""The last expansion in pieces against the same in one go."""

from __future__ import annotations

import pytest
import torch
from swin_umamba.networks import pixels
from swin_umamba.networks.vss import FinalPatchExpand
from torch import nn

pytest.importorskip("numba", reason="the pieces are for compiled norms")


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("together", [7, 16, 512])  # 30 patches: the last piece is smaller, or there is one piece
def test_pieces_give_the_logits_of_the_whole(monkeypatch, together, dtype):
    torch.manual_seed(0)
    expand, head = FinalPatchExpand(64, 32), nn.Conv2d(32, 5, kernel_size=1)
    x = torch.randn(2, 3, 5, 64)
    monkeypatch.setattr(pixels, "PATCHES", together)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        whole = head(expand(x).permute(0, 3, 1, 2))
        logits = pixels.pixel_logits(expand, head, x)
    assert logits.shape == (2, 5, 12, 20)
    assert logits.dtype == dtype
    torch.testing.assert_close(logits, whole, rtol=0, atol=2e-6 if dtype == torch.float32 else 2e-2)
