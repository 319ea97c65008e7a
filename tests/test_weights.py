"""Checkpoints: what is taken, what is refused, and that nothing in a file is ever executed."""

from __future__ import annotations

import json
import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from swin_umamba.errors import InputError
from swin_umamba.networks import build_network
from swin_umamba.weights import load_checkpoint, load_pretrained, read_state_dict

FIXTURES = Path(__file__).parent / "fixtures" / "networks"
VMAMBA = {key: tuple(shape) for key, shape in json.loads((FIXTURES / "vmamba_tiny.json").read_text()).items()}
CLASSIFIER = {"norm.weight", "norm.bias", "head.weight", "head.bias"}
EMBEDDING = {f"patch_embed.{key}" for key in ("proj.weight", "proj.bias", "norm.weight", "norm.bias")}


def constants(shapes):
    """Tensors of these shapes that take no room in a file: each is one number, another for each key."""
    return {key: torch.tensor(float(i + 1)).expand(shape) for i, (key, shape) in enumerate(shapes.items())}


@pytest.fixture(scope="module")
def vmamba(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vmamba_tiny_e292.pth"
    torch.save({"model": constants(VMAMBA), "epoch": 292, "max_accuracy": 82.2}, path)
    return path


def tiny(name="swin_umamba_d_tiny", in_channels=1, out_channels=3, **arguments):
    return build_network(name, in_channels=in_channels, out_channels=out_channels, **arguments)


def encoder_name(key):
    parts = key.split(".")
    if "downsample" in parts:
        parts = ["downsamples", parts[1], *parts[3:]]
    return ".".join(["vssm_encoder", *parts])


@pytest.mark.parametrize(
    ("name", "in_channels", "count", "parameters", "skipped"),
    [
        ("swin_umamba", 1, 205, 22_118_112, CLASSIFIER | EMBEDDING - {"patch_embed.norm.bias"}),
        ("swin_umamba", 3, 205, 22_118_112, CLASSIFIER | EMBEDDING - {"patch_embed.norm.bias"}),
        ("swin_umamba_d", 1, 204, 22_118_016, CLASSIFIER | EMBEDDING),
        ("swin_umamba_d", 3, 208, 22_122_912, CLASSIFIER),
    ],
)
def test_vmamba_tiny_goes_into_the_encoder(vmamba, name, in_channels, count, parameters, skipped):
    network = build_network(name, in_channels=in_channels, out_channels=2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    report = load_pretrained(network, vmamba)
    assert len(report.taken) == count
    assert sum(np.prod(shape) for shape in report.taken.values()) == parameters
    assert set(report.skipped) == skipped
    left = {encoder_name(key) for key in skipped - CLASSIFIER}
    assert {key for key in report.left if key.startswith("vssm_encoder")} == left
    assert set(report.taken) | set(report.left) == set(before)
    after, values = network.state_dict(), constants(VMAMBA)
    for key in VMAMBA.keys() - skipped:
        assert (after[encoder_name(key)] == values[key]).all(), key
    for key in report.left:
        assert torch.equal(after[key], before[key]), key
    assert f"{count} tensors ({parameters:,} parameters) taken" in str(report)
    assert "head.weight (1000, 768)" in str(report)


def test_pretrained_weights_of_another_size_change_nothing(vmamba):
    network = tiny()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(InputError, match="was made with embed_dim 96, the network has embed_dim 16"):
        load_pretrained(network, vmamba)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_vmamba_small_is_told_from_tiny(tmp_path):
    longer = {
        **VMAMBA,
        **{k.replace(".8.", ".26."): s for k, s in VMAMBA.items() if k.startswith("layers.2.blocks.8.")},
    }
    torch.save({"model": constants(longer)}, tmp_path / "small.pth")
    network = build_network("swin_umamba_d", in_channels=1, out_channels=2)
    with pytest.raises(
        InputError, match=r"was made with depths \(2, 2, 27, 2\), the network has depths \(2, 2, 9, 2\)"
    ):
        load_pretrained(network, tmp_path / "small.pth")


def save(path, content):
    torch.save(content, path)
    return path


OTHER_GENERATION = {
    "patch_embed.0.weight": (48, 3, 3, 3),
    "layers.0.blocks.0.op.A_logs": (768, 1),
    "classifier.head.weight": (9, 9),
}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (OTHER_GENERATION, "another generation of VMamba .*legal is VMamba of January 2024"),
        ({"conv.weight": (3, 3)}, "an unknown network, legal is VMamba of January 2024"),
    ],
    ids=["generation", "unknown"],
)
def test_other_files_are_no_pretrained_weights(tmp_path, shapes, message):
    path = save(tmp_path / "x.pth", {"model": constants(shapes)})
    with pytest.raises(InputError, match=message):
        load_pretrained(tiny(), path)
    if "patch_embed.0.weight" in shapes:
        with pytest.raises(InputError, match="an encoder only; load_pretrained is for those"):
            load_checkpoint(tiny(), path)


def test_each_loader_points_to_the_other(tmp_path, vmamba):
    whole = save(tmp_path / "whole.pt", tiny().state_dict())
    with pytest.raises(InputError, match="holds a whole Swin-UMamba-dagger, not an encoder; load_checkpoint"):
        load_pretrained(tiny(), whole)
    with pytest.raises(InputError, match="VMamba of January 2024, an encoder only; load_pretrained"):
        load_checkpoint(tiny(), vmamba)
    with pytest.raises(InputError, match="are for SwinUMamba and SwinUMambaD, not Linear"):
        load_pretrained(torch.nn.Linear(2, 2), vmamba)


def nnunet_file(network, prefix=""):
    """What nnU-Net saves: NumPy numbers, a device and plans beside the weights."""
    return {
        "network_weights": {prefix + key: value for key, value in network.state_dict().items()},
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "grad_scaler_state": None,
        "logging": {
            "mean_fg_dice": [np.float64(0.5), np.float32(0.6)],
            "dice": [np.array([0.1, 0.2])],
            "n": np.int64(3),
        },
        "_best_ema": np.float64(0.77),
        "current_epoch": 100,
        "init_args": {"device": torch.device("cuda"), "plans": {"patch_size": [320, 320]}, "fold": "all"},
        "trainer_name": "nnUNetTrainerSwinUMambaD",
        "inference_allowed_mirroring_axes": (0, 1),
    }


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("name", ["swin_umamba_tiny", "swin_umamba_d_tiny"])
def test_official_checkpoints_fill_the_whole_network(tmp_path, name, prefix):
    torch.manual_seed(0)
    source, network = tiny(name), tiny(name)
    report = load_checkpoint(network, save(tmp_path / "checkpoint_99.pth", nnunet_file(source, prefix)))
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in network.state_dict().items())
    assert len(report.taken) == len(source.state_dict())
    assert not report.skipped
    assert not report.left


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s}], ids=["bare", "model", "state_dict"]
)
def test_own_checkpoints_bare_or_wrapped(tmp_path, wrap):
    source, network = tiny(), tiny()
    load_checkpoint(network, save(tmp_path / "model.pt", wrap(source.state_dict())))
    assert torch.equal(network.decoder.seg_layers[3].weight, source.decoder.seg_layers[3].weight)


@pytest.mark.parametrize(
    ("file", "network", "message"),
    [
        ({"out_channels": 14}, {}, "was made with out_channels 14, the network has out_channels 3"),
        ({"in_channels": 3}, {}, "was made with in_channels 3, the network has in_channels 1"),
        ({"embed_dim": 32}, {}, "was made with embed_dim 32, the network has embed_dim 16"),
        ({"depths": (1, 2, 1, 1)}, {}, r"was made with depths \(1, 2, 1, 1\), the network has depths \(1, 1, 1, 1\)"),
        ({"decoder_depth": 2}, {}, "lacks nothing and has besides 39 tensors"),
        ({"name": "swin_umamba_tiny"}, {}, "holds Swin-UMamba; it does not fit Swin-UMamba-dagger"),
        ({}, {"name": "swin_umamba_tiny"}, "holds Swin-UMamba-dagger; it does not fit Swin-UMamba$"),
    ],
    ids=["classes", "channels", "width", "depths", "decoder", "network", "reverse"],
)
def test_what_does_not_fit_is_named(tmp_path, file, network, message):
    path = save(tmp_path / "model.pt", tiny(**file).state_dict())
    with pytest.raises(InputError, match=message):
        load_checkpoint(tiny(**network), path)


def test_the_network_of_the_first_paper_version_is_named(tmp_path):
    state = {k: v for k, v in tiny("swin_umamba_tiny").state_dict().items() if not k.startswith("decoder6")}
    with pytest.raises(InputError, match="before March 2024 .*does not fit Swin-UMamba$"):
        load_checkpoint(tiny("swin_umamba_tiny"), save(tmp_path / "v1.pth", {"network_weights": state}))


def test_a_missing_and_a_misshapen_tensor_are_named(tmp_path):
    state = tiny().state_dict()
    shape = state.pop("decoder.expand_layers.0.norm.bias").shape
    with pytest.raises(
        InputError, match=r"lacks 1 tensors \(decoder.expand_layers.0.norm.bias\) and has besides nothing"
    ):
        load_checkpoint(tiny(), save(tmp_path / "a.pt", state))
    state["decoder.expand_layers.0.norm.bias"] = torch.zeros(shape[0] + 1)
    with pytest.raises(InputError, match=r"has decoder.expand_layers.0.norm.bias \(65,\), the network \(64,\)"):
        load_checkpoint(tiny(), save(tmp_path / "b.pt", state))


class Malicious:
    """Pickles as a call that would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


REFUSED = r"needs code to be executed \(\w+.mkdir\) and is refused"


@pytest.mark.parametrize(
    ("kind", "message"),
    [("torch", REFUSED), ("legacy", REFUSED), (2, REFUSED), (4, "cannot be read"), (5, "cannot be read")],
)
def test_code_in_a_file_is_refused_and_not_run(tmp_path, kind, message):
    path, proof = tmp_path / "evil.pth", tmp_path / "was_here"
    content = {"model": {"a": torch.zeros(1)}, "extra": Malicious(proof)}
    if isinstance(kind, int):
        path.write_bytes(pickle.dumps({"extra": Malicious(proof)}, protocol=kind))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(InputError, match=message):
        read_state_dict(path)
    assert not proof.exists()


def test_the_config_in_an_old_vmamba_file_is_read_as_data(tmp_path, monkeypatch):
    yacs = types.ModuleType("yacs.config")
    yacs.CfgNode = type("CfgNode", (dict,), {"__module__": "yacs.config", "__qualname__": "CfgNode"})
    config = yacs.CfgNode(MODEL=yacs.CfgNode(NAME="vssm_tiny"))
    config.__dict__["__immutable__"] = True
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
        patch.setitem(sys.modules, "yacs.config", yacs)
        torch.save({"model": {"a": torch.ones(2)}, "config": config}, tmp_path / "old.pth")
    assert torch.equal(read_state_dict(tmp_path / "old.pth")["a"], torch.ones(2))


def test_files_that_are_no_checkpoints(tmp_path, vmamba):
    (tmp_path / "cut.pth").write_bytes(vmamba.read_bytes()[:2000])
    (tmp_path / "page.pth").write_text("<html>404</html>")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("cut.pth", "page.pth", "empty.pth"):
        with pytest.raises(InputError, match=f"{name}' cannot be read, it may be cut off or of another format"):
            read_state_dict(tmp_path / name)
    with pytest.raises(InputError, match="no weights file '.*nowhere.pth'; .* fetch"):
        read_state_dict(tmp_path / "nowhere.pth")
    with pytest.raises(InputError, match="no weights file"):
        read_state_dict(tmp_path)
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "model.ts")
    with pytest.raises(InputError, match="is a TorchScript program"):
        read_state_dict(tmp_path / "model.ts")
    for content in ([1, 2], {}, {"epoch": 3}, {"model": {"lr": 0.1}}, torch.zeros(2)):
        with pytest.raises(InputError, match="holds no state dict: .*network_weights, model, state_dict"):
            read_state_dict(save(tmp_path / "other.pt", content))
