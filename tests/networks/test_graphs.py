"""Recorded networks give what the networks give."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from monai.engines import SupervisedTrainer
from swin_umamba.errors import InputError
from swin_umamba.losses import DeepSupervisionLoss, PartialDiceCELoss
from swin_umamba.networks import build_network
from swin_umamba.networks.graphs import GraphedNetwork, TrainingGraphs, graph_training, without_collection
from swin_umamba.sampling import StepSeeding
from swin_umamba.training import prepare_batch


def small(**arguments):
    torch.manual_seed(0)
    return build_network("swin_umamba_d_tiny", in_channels=1, out_channels=3, drop_path_rate=0.0, **arguments)


def test_on_a_cpu_calls_go_to_the_network():
    network = small().eval()
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(GraphedNetwork(network).eval()(x), network(x))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA GPU")
@pytest.mark.parametrize("half", [None, torch.bfloat16])
def test_replays_of_many_shapes(half):
    network = small().eval().cuda()
    graphed = GraphedNetwork(network, most=2).eval()
    with torch.no_grad(), torch.autocast("cuda", half, enabled=half is not None):
        for size in (32, 64, 96, 32, 64):
            x = torch.randn(2, 1, size, 64, device="cuda")
            first, expected = graphed(x), network(x)
            torch.testing.assert_close(first, expected, rtol=0, atol=2e-2 if half else 1e-4)
            kept = first.clone()
            graphed(x + 1)
            assert torch.equal(first, kept), "a result must not change with the next call"
    assert len(graphed._graphs) == 2


def test_nothing_is_freed_while_a_recording_is_made():
    class Link:
        pass

    freed = []
    links = [Link(), Link()]
    for link, name in zip(links, ("before", "within"), strict=True):
        link.itself = link  # only the collector frees it
        weakref.finalize(link, freed.append, name)
    kept = links.pop()
    del link, links
    with pytest.raises(KeyError), without_collection():  # noqa: PT012
        assert freed == ["before"]
        del kept
        for _ in range(100_000):
            [[]].append([])  # as many new objects start a collection otherwise
        assert freed == ["before"]
        raise KeyError
    assert gc.isenabled()
    gc.collect()
    assert freed == ["before", "within"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA GPU")
def test_recordings_of_several_networks_in_one_process():
    for size in (32, 64, 96):  # the older ones are garbage in a cycle while the newer ones are made
        run = graph_training(small().cuda().train(), torch.randn(2, 1, size, size, device="cuda"), torch.bfloat16)
        sum(output.float().square().mean() for output in run(torch.randn(2, 1, size, size, device="cuda"))).backward()
    torch.cuda.synchronize()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA GPU")
def test_recorded_training_gives_the_same_gradients():
    network, twin = small().cuda(), small().cuda()
    run = graph_training(network, torch.randn(2, 1, 64, 64, device="cuda"))
    network.zero_grad()
    x = torch.randn(2, 1, 64, 64, device="cuda")
    for function in (run, twin):
        sum(output.square().mean() for output in function(x)).backward()
    for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def train(network, device, handlers, steps=6, amp=False, sizes=(64,)):
    """Train on batches drawn from a seed, and return the losses."""
    network = network.to(device)
    draws = torch.Generator().manual_seed(1)
    batches = [
        {
            "image": torch.randn(2, 1, size, size, generator=draws),
            "label": torch.randint(0, 3, (2, 1, size, size), generator=draws),
        }
        for size in [sizes[step % len(sizes)] for step in range(steps)]
    ]
    losses = []
    trainer = SupervisedTrainer(
        device=torch.device(device),
        max_epochs=1,
        train_data_loader=batches,
        epoch_length=steps,
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0),
        loss_function=DeepSupervisionLoss(PartialDiceCELoss()),
        prepare_batch=prepare_batch,
        decollate=False,
        amp=amp,
        amp_kwargs={"dtype": torch.bfloat16} if amp else {},
        train_handlers=[StepSeeding(3), *handlers],
        postprocessing=lambda data: losses.append(float(data["loss"].detach())) or data,
    )
    trainer.run()
    return losses


def test_a_training_on_a_cpu_is_not_recorded_and_the_network_is_itself_afterwards():
    network, twin = small(), small()
    assert train(network, "cpu", [TrainingGraphs(network)], steps=2) == train(twin, "cpu", [], steps=2)
    assert "forward" not in vars(network)


def test_checkpointed_activations_cannot_be_recorded():
    with pytest.raises(InputError, match="cuda_graphs and activation_checkpointing"):
        TrainingGraphs(small(activation_checkpointing=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA GPU")
@pytest.mark.parametrize("amp", [False, True])
def test_a_recorded_training_learns_what_the_plain_one_learns(amp):
    network, twin = small(), small()
    recorded = train(network, "cuda", [TrainingGraphs(network)], amp=amp, sizes=(64, 32))
    plain = train(twin, "cuda", [], amp=amp, sizes=(64, 32))
    assert recorded == pytest.approx(plain, rel=2e-2 if amp else 1e-3)
    assert recorded[-2] < recorded[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA GPU")
def test_a_recorded_training_repeats_with_drop_path():
    networks = [small(), small()]
    for network in networks:
        for module in network.modules():
            if type(module).__name__ == "DropPath":
                module.drop_prob = 0.5
    assert any(type(module).__name__ == "DropPath" for module in networks[0].modules())
    first, second = (train(network, "cuda", [TrainingGraphs(network)]) for network in networks)
    assert first == pytest.approx(second, rel=1e-5)
