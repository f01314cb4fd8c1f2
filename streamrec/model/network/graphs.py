"""Steps on a GPU, replayed as CUDA graphs: launching hundreds of small kernels takes longer than running them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from streamrec.model.network.step import Step

Shape = tuple[torch.Size, ...]


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: Step


class ReplayedSteps:
    """Runs steps on a GPU, from the second one of each shape as a graph; bounded by the number of shapes.

    The first step of a shape runs eagerly: it initializes torch and the optimizer for the capture.

    Parameters
    ----------
    make
        Runs a step; tensors that it changes must not be reallocated before :meth:`forget`.
    device
        The GPU.
    """

    def __init__(self, make: Callable[[Step], None], device: torch.device) -> None:
        self._make = make
        self._device = device
        self._captured: dict[Shape, _Captured | None] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Step) -> None:
        """Run a step."""
        shape = tuple(tensor.shape for tensor in step)
        if shape not in self._captured:
            self._captured[shape] = None
            self._make(step.on(self._device))
            return
        captured = self._captured[shape]
        if captured is None:
            captured = self._captured[shape] = self._capture(step)
        for own, given in zip(captured.inputs, step, strict=True):
            own.copy_(given.pin_memory(), non_blocking=True)
        captured.graph.replay()

    def forget(self) -> None:
        """Discard all graphs: tables were reallocated, or learning rates changed."""
        self._captured.clear()
        # a pool is freed with its last graph
        self._pool = torch.cuda.graph_pool_handle()

    def _capture(self, step: Step) -> _Captured:
        """Capture a step without running it."""
        graph, inputs = torch.cuda.CUDAGraph(), step.on(self._device)
        # other threads may use the GPU meanwhile
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            self._make(inputs)
        return _Captured(graph, inputs)
