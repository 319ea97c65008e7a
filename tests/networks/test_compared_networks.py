"""The networks of the papers around ours: sizes as published, any image, gradients, the recipe's arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from swin_umamba.errors import InputError
from swin_umamba.models import ModelSpec, load_model, save_model
from swin_umamba.networks import build_network
from swin_umamba.networks.flops import count_flops
from swin_umamba.networks.mamba import Mamba, MambaLayer
from swin_umamba.networks.u_mamba import ResidualBlock
from swin_umamba.weights import load_checkpoint

MICROSCOPY = {"features": (32, 64, 128, 256, 512, 512, 512, 512)}
PARAMETERS = [  # of the official code: U-Mamba of January 2024, VM-UNet 43c495b
    ("u_mamba_bot", 1, 14, {}, 63_344_180),
    ("u_mamba_bot", 3, 8, {}, 63_335_696),
    ("u_mamba_bot", 3, 3, MICROSCOPY, 86_150_037),
    ("u_mamba_enc", 1, 14, {}, 67_333_428),
    ("u_mamba_enc", 3, 8, {}, 67_324_944),
    ("u_mamba_enc", 3, 3, MICROSCOPY, 91_835_029),
    ("vm_unet", 1, 1, {}, 27_427_561),
    ("vm_unet", 3, 9, {}, 27_427_761),
    ("vm_unet", 1, 1, {"depths": (2, 2, 9, 2), "decoder_depths": (2, 9, 2, 2)}, 44_273_833),
]
SMALL = {
    "u_mamba_bot": {"features": (4, 8, 8)},
    "u_mamba_enc": {"features": (4, 8, 8)},
    "vm_unet": {"embed_dim": 8, "depths": (1, 1, 1, 1), "decoder_depths": (1, 1, 1, 1)},
    "dynunet": {"features": (4, 8, 8)},
    "segresnet": {"init_filters": 8},
    "unetr": {"img_size": 48, "feature_size": 4, "hidden_size": 48, "num_heads": 6},
    "swin_unetr": {"feature_size": 12},
}
HEADS = {"u_mamba_bot": 2, "u_mamba_enc": 2, "dynunet": 2}
RECIPE = {"deep_supervision": True, "drop_path_rate": 0.2, "scan_backend": "auto", "activation_checkpointing": False}


def small(name: str, **arguments: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(name, in_channels=1, out_channels=3, **{**RECIPE, **SMALL[name], **arguments})


@pytest.mark.parametrize(("name", "in_channels", "out_channels", "sizes", "expected"), PARAMETERS)
def test_parameters_of_the_official_code(name, in_channels, out_channels, sizes, expected):
    network = build_network(name, in_channels=in_channels, out_channels=out_channels, **sizes)
    assert sum(p.numel() for p in network.parameters()) == expected


def test_vm_unet_has_the_official_keys_and_shapes():
    expected = json.loads((Path(__file__).parents[1] / "fixtures/networks/vm_unet.json").read_text(encoding="utf-8"))
    state = build_network("vm_unet", in_channels=1, out_channels=9).state_dict()
    assert {key: list(tensor.shape) for key, tensor in state.items()} == expected


@pytest.mark.parametrize(
    ("name", "published"),
    [("dynunet", 23.3), ("segresnet", 24.5), ("unetr", 42.1), ("swin_unetr", 27.9), ("u_mamba_bot", 45.7)],
)
def test_flops_of_the_published_table(name, published):
    pytest.importorskip("fvcore", reason="fvcore is a development dependency")
    network = build_network(name, in_channels=1, out_channels=14, deep_supervision=True)
    assert count_flops(network, torch.zeros(1, 1, 320, 320))["total"] / 1e9 == pytest.approx(published, abs=0.05)


@pytest.mark.parametrize("name", SMALL)
def test_any_size_in_the_same_size_out(name):
    network = small(name).eval()
    for size in ((33, 48), (47, 21), (5, 3)):
        assert network(torch.randn(2, 1, *size)).shape == (2, 3, *size)
    with pytest.raises(InputError, match=r"takes images of shape \(batch, 1, H, W\)"):
        network(torch.randn(1, 2, 32, 32))


def test_unetr_is_bound_to_its_patch():
    with pytest.raises(InputError, match=r"UNETR takes images of at most 48 pixels, not \(49, 16\)"):
        small("unetr")(torch.randn(1, 1, 49, 16))


@pytest.mark.parametrize("name", SMALL)
def test_training_reaches_every_parameter(name):
    network = small(name)
    outputs = network(torch.randn(2, 1, 40, 48))
    heads = outputs if isinstance(outputs, list) else [outputs]
    assert len(heads) == HEADS.get(name, 1)
    assert heads[0].shape == (2, 3, 40, 48)
    sum((head - 1).square().mean() for head in heads).backward()
    left = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not [key for key in left if "norm_cross_attn" not in key]  # MONAI's transformer does not use those


@pytest.mark.parametrize("name", SMALL)
def test_models_are_written_and_read(name, tmp_path):
    spec = ModelSpec(
        name=name,
        network={"name": name, "arguments": {"in_channels": 1, **SMALL[name]}},
        labels={"liver": 1, "spleen": 2},
    )
    network = small(name).eval()
    save_model(tmp_path, network, spec)
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path).network(x), network(x))


def test_weights_of_another_compared_network_are_refused(tmp_path):
    torch.save(small("u_mamba_bot").state_dict(), tmp_path / "a.pt")
    with pytest.raises(InputError, match="it does not fit VM-UNet"):
        load_checkpoint(small("vm_unet"), tmp_path / "a.pt")


def test_heads_of_u_mamba_halve():
    outputs = small("u_mamba_bot", features=(4, 4, 4, 4))(torch.randn(1, 1, 41, 48))
    assert [tuple(head.shape[2:]) for head in outputs] == [(41, 48), (21, 24), (11, 12)]


@pytest.mark.parametrize("name", ["u_mamba_enc", "vm_unet"])
def test_activation_checkpointing_gives_the_same_gradients(name):
    gradients = []
    for checkpointing in (False, True):
        network = small(name, activation_checkpointing=checkpointing, drop_path_rate=0.0)
        outputs = network(torch.ones(1, 1, 32, 32))
        (outputs[0] if isinstance(outputs, list) else outputs).square().sum().backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_networks_without_checkpointing_say_so():
    with pytest.raises(InputError, match="SegResNet has no activation_checkpointing; legal: false"):
        small("segresnet", activation_checkpointing=True)


def test_mamba_is_causal():
    torch.manual_seed(0)
    layer, x = Mamba(8).eval(), torch.randn(1, 12, 8)
    with torch.no_grad():
        changed = x.clone()
        changed[:, 7] += 1
        difference = (layer(x) - layer(changed)).abs().amax(-1)[0]
    assert (difference[:7] == 0).all()
    assert (difference[7:] > 0).all()


def test_mamba_by_hand():
    """One channel pair at a time through convolution, scan and gate, written as loops."""
    torch.manual_seed(1)
    layer, x = Mamba(2).double(), torch.randn(1, 5, 2, dtype=torch.float64)
    with torch.no_grad():
        u, gate = (x[0] @ layer.in_proj.weight.T).split(4, dim=1)  # (L, 4) each
        padded = torch.cat([torch.zeros(3, 4, dtype=torch.float64), u])
        taps = layer.conv1d.weight[:, 0]  # (4, 4)
        u = torch.stack([(padded[t : t + 4] * taps.T).sum(0) for t in range(5)]) + layer.conv1d.bias
        u = u * u.sigmoid()
        packed = u @ layer.x_proj.weight.T  # (L, 1 + 32)
        steps = torch.nn.functional.softplus(packed[:, :1] @ layer.dt_proj.weight.T + layer.dt_proj.bias)
        state, rows = torch.zeros(4, 16, dtype=torch.float64), []
        for t in range(5):
            state = state * torch.exp(steps[t][:, None] * -layer.A_log.exp())
            state = state + steps[t][:, None] * packed[t, 1:17] * u[t][:, None]
            rows.append(state @ packed[t, 17:] + layer.D * u[t])
        expected = (torch.stack(rows) * gate * gate.sigmoid()) @ layer.out_proj.weight.T
        torch.testing.assert_close(layer(x)[0], expected, rtol=1e-9, atol=1e-12)


def test_mamba_layer_stays_in_single_precision_under_autocast():
    torch.manual_seed(0)
    layer, x = MambaLayer(4), torch.randn(1, 4, 3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)
    assert half.dtype == torch.float32
    assert torch.equal(half, layer(x))


def test_residual_block_averages_where_it_strides():
    """With its last norm at zero the block is the mean of 2x2 pixels, then the leaky ReLU."""
    block, x = ResidualBlock(2, 2, stride=2), torch.arange(32.0).reshape(1, 2, 4, 4) - 20
    torch.nn.init.zeros_(block.get_parameter("conv2.adn.N.weight"))
    mean = torch.nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(block(x), torch.where(mean > 0, mean, 0.01 * mean))
