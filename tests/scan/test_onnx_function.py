"""The scan in ONNX operators against the other backends, at every size that matters to blocks and directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from swin_umamba.scan import ss2d_scan
from swin_umamba.scan.onnx_function import BLOCK, DOMAIN, NAME, OPSET, ss2d_function

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
RANKS = {"x": 4, "x_proj_weight": 3, "dt_projs_weight": 3, "dt_projs_bias": 2, "A_logs": 2, "Ds": 1, "y": 4}
NAMES = list(RANKS)[:-1]


@pytest.fixture(scope="module")
def session():
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [f"{name}_{axis}" for axis in range(rank)])
        for name, rank in RANKS.items()
    ]
    node = onnx.helper.make_node(NAME, NAMES, ["y"], domain=DOMAIN)
    graph = onnx.helper.make_graph([node], "alone", values[:-1], values[-1:])
    opsets = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, functions=[ss2d_function()], ir_version=10)
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def inputs(batch: int, height: int, width: int, channels: int, states: int, rank: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(height * width)
    return [
        torch.randn(batch, height, width, channels, generator=random),
        torch.randn(4, rank + 2 * states, channels, generator=random) / channels**0.5,
        torch.randn(4, channels, rank, generator=random) * 0.5,
        torch.rand(4, channels, generator=random) - 3,
        torch.rand(4 * channels, states, generator=random),
        torch.randn(4 * channels, generator=random),
    ]


@pytest.mark.parametrize(
    "sizes",
    [
        (1, 1, 1, 4, 3, 1),
        (2, 3, 5, 6, 4, 2),
        (1, 4, BLOCK // 4, 8, 16, 1),  # one block, filled
        (1, 1, BLOCK + 1, 8, 16, 1),
        (3, 9, 7, 12, 16, 3),
    ],
)
def test_agrees_with_the_plain_scan_in_float64(session, sizes):
    arguments = inputs(*sizes)
    (y,) = session.run(["y"], {name: tensor.numpy() for name, tensor in zip(NAMES, arguments, strict=True)})
    expected = ss2d_scan(*(tensor.double() for tensor in arguments), backend="reference")
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-5, atol=1e-5)
