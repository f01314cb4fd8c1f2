"""Steps on a GPU, replayed as graphs: to launch hundreds of small kernels one by one takes longer than they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from streamrec.model.step import Step

Shape = tuple[torch.Size, ...]


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: Step


class ReplayedSteps:
    """Makes steps on a GPU, the second and later ones of each shape from a graph; bounded by the number of shapes.

    The first step of a shape is made as it is: it prepares what a capture has to find, in torch and in the optimizer.

    Parameters
    ----------
    make
        Makes a step; everything that it changes has to stay where it is, until :meth:`forget`.
    device
        The GPU.
    """

    def __init__(self, make: Callable[[Step], None], device: torch.device) -> None:
        self._make = make
        self._device = device
        self._captured: dict[Shape, _Captured | None] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Step) -> None:
        """Make a step."""
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
        """Capture anew: tables moved, or the rates of learning changed."""
        self._captured.clear()
        # a pool goes with the last graph in it
        self._pool = torch.cuda.graph_pool_handle()

    def _capture(self, step: Step) -> _Captured:
        """Record a step without making it."""
        graph, inputs = torch.cuda.CUDAGraph(), step.on(self._device)
        # other threads may use the GPU meanwhile
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            self._make(inputs)
        return _Captured(graph, inputs)
