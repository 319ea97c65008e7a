"""CUDA graphs: replay a network's kernels for image sizes seen before, so that small batches do not wait for Python."""

from __future__ import annotations

import copy
import gc
import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from swin_umamba.distributed import finish_exchanges
from swin_umamba.errors import InputError

logger = logging.getLogger(__name__)
_WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
_WARM_UP = 3  # calls before the capture: kernels are compiled, cuDNN and the allocator settle


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect garbage now and none within: to free an older recording's memory would break one that is being made."""
    wanted = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if wanted:
            gc.enable()


class GraphedNetwork(nn.Module):
    """A network in evaluation mode on a CUDA GPU whose calls are recorded once for each shape and then replayed.

    Where autocast is on, matrix and convolution weights are converted to its type once, and not in every call. Calls
    with gradients, in training mode or on a CPU go to `network` itself. The recorded weights are a copy: after
    `network` has changed, make a new `GraphedNetwork`.

    Args:
        network: takes (B, C, H, W), gives one tensor.
        most: shapes that are remembered; the one used longest ago is forgotten first. Each holds its own memory.

    Example::

        >>> network = GraphedNetwork(build_network("swin_umamba_d", in_channels=1, out_channels=14).eval())
    """

    def __init__(self, network: nn.Module, *, most: int = 4) -> None:
        super().__init__()
        self.network = network
        self.most = most
        self._copies: dict[torch.dtype | None, nn.Module] = {}
        self._graphs: OrderedDict[tuple, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = OrderedDict()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) as `network` does; the result is the caller's own."""
        if not x.is_cuda or self.training or torch.is_grad_enabled():
            return self.network(x)
        half = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = (tuple(x.shape), x.dtype, x.device, half)
        if key not in self._graphs:
            self._graphs[key] = self._record(x, half)
            while len(self._graphs) > self.most:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        graph, given, result = self._graphs[key]
        given.copy_(x)
        graph.replay()
        return result.clone()

    def _record(self, x: Tensor, half: torch.dtype | None) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        logger.info("recording a CUDA graph for images %s", list(x.shape))
        network = self._copy(half)
        given = x.clone()
        stream = torch.cuda.Stream(x.device)
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream), torch.no_grad():
            for _ in range(_WARM_UP):
                network(given)
        torch.cuda.current_stream(x.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with without_collection(), torch.cuda.graph(graph), torch.no_grad():
            result = network(given)
        return graph, given, result

    def _copy(self, half: torch.dtype | None) -> nn.Module:
        """Return the network with weights of the type that autocast would give them."""
        if half not in self._copies:
            network = copy.deepcopy(self.network).eval().requires_grad_(False)
            for module in network.modules() if half is not None else ():
                if isinstance(module, _WEIGHTED) and not _depthwise(module):
                    module.to(half)
            self._copies[half] = network
        return self._copies[half]


def _depthwise(module: nn.Module) -> bool:
    """Whether the fused kernel reads the weights, in float32."""
    return isinstance(module, nn.Conv2d) and module.groups > 1


class _Autocast(nn.Module):
    """A network with autocast inside, and without its cache of weights, which a graph must not share."""

    def __init__(self, network: nn.Module, half: torch.dtype | None) -> None:
        super().__init__()
        self.network, self.precision = network, half

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map (B, C, H, W) as the network does, a list of outputs as a tuple."""
        with torch.autocast("cuda", self.precision, enabled=self.precision is not None, cache_enabled=False):
            result = self.network(x)
        return tuple(result) if isinstance(result, list) else result


def graph_training(network: nn.Module, example: Tensor, half: torch.dtype | None = None) -> nn.Module:
    """Record forward and backward pass of a network in training mode and return a module that replays them.

    Loss and optimizer stay outside; gradients arrive in the parameters of `network` as always.

    Args:
        network: in training mode on a CUDA GPU; activation checkpointing must be off.
        example: a batch (B, C, H, W); every later batch must have its shape and type.
        half: type of autocast, which is part of the recording; None: float32.
    """
    with without_collection():
        return torch.cuda.make_graphed_callables(_Autocast(network, half), (example,))  # type: ignore[return-value]


class TrainingGraphs:
    """Record a network's training steps during a training by MONAI's trainer, and replay them.

    While the training runs, calls of the network in training mode on a CUDA GPU replay a recording for their shape,
    their type and the parameters that are being trained; all other calls go to the network as it is. A batch of another
    shape, or a change of what is frozen, makes a new recording. Parameters of heads that the loss leaves out get
    gradients of zero instead of none.

    Args:
        network: activation checkpointing must be off. Of several processes each records its own; `GradientAveraging`
            brings their gradients together.
        most: recordings that are kept; each holds the memory of a step.

    Raises:
        InputError: if the network checkpoints activations, which cannot be recorded.
    """

    def __init__(self, network: nn.Module, *, most: int = 2) -> None:
        if any(getattr(module, "activation_checkpointing", False) for module in network.modules()):
            raise InputError("cuda_graphs and activation_checkpointing: give one of the two")
        self.network = network
        self.most = most
        self._recordings: OrderedDict[tuple, nn.Module] = OrderedDict()

    def attach(self, engine: Engine) -> None:
        """Replay from the training's start to its end."""
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.COMPLETED, self.end)

    def begin(self) -> None:
        """Take the place of the network's own forward pass."""
        self.network.__dict__["forward"] = self._forward

    def end(self) -> None:
        """Give the network its own forward pass back and free the recordings."""
        self.network.__dict__.pop("forward", None)
        self._recordings.clear()

    def _forward(self, x: Tensor) -> Tensor | list[Tensor]:
        own = type(self.network).forward
        if not (x.is_cuda and self.network.training and torch.is_grad_enabled()):
            return own(self.network, x)
        half = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        trained = tuple(parameter.requires_grad for parameter in self.network.parameters())
        key = (tuple(x.shape), x.dtype, x.device, half, trained)
        if key not in self._recordings:
            logger.info("recording a CUDA graph of a training step for images %s", list(x.shape))
            self.network.__dict__.pop("forward", None)
            finish_exchanges()
            with torch.autocast("cuda", enabled=False):
                self._recordings[key] = graph_training(self.network, x.clone(), half)
            self.begin()
            while len(self._recordings) > self.most:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(key)
        result = self._recordings[key](x)
        return list(result) if isinstance(result, tuple) else result


def graphed(network: nn.Module, wanted: bool) -> nn.Module:
    """Return the network, in a `GraphedNetwork` if that is wanted; on a CPU that changes nothing."""
    return GraphedNetwork(network).eval() if wanted else network
