"""The Adam optimizer of dense weights, using torch's fused kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from streamrec.model.tensors import Arrays

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam (Kingma and Ba 2015) by torch's functional fused step: the optimizer class would import torch's compiler.

    That import takes seconds at the start of a trainer, and nothing here is compiled.

    Parameters
    ----------
    parameters
        Parameters to optimize, all on one device.
    learning_rate
        May be changed between steps.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self._parameters: list[Tensor] = list(parameters)
        self._state = {
            "exp_avg": [torch.zeros_like(each, requires_grad=False) for each in self._parameters],
            "exp_avg_sq": [torch.zeros_like(each, requires_grad=False) for each in self._parameters],
            "step": [torch.zeros((), device=each.device) for each in self._parameters],
        }

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return int(self._state["step"][0].item())

    def forget_gradients(self) -> None:
        """Reset all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient."""
        moved = [index for index, parameter in enumerate(self._parameters) if parameter.grad is not None]
        parameters = [self._parameters[index] for index in moved]
        adam(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [self._state["exp_avg"][index] for index in moved],
            [self._state["exp_avg_sq"][index] for index in moved],
            [],
            [self._state["step"][index] for index in moved],
            fused=True,
            capturable=self._parameters[0].is_cuda,
            amsgrad=False,
            beta1=_BETA_1,
            beta2=_BETA_2,
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=_EPSILON,
            maximize=False,
        )

    def state(self) -> Arrays:
        """Return the moments and the number of steps, by index of the parameter."""
        return {
            f"{index}.{name}": value.cpu().numpy().copy()
            for name, values in self._state.items()
            for index, value in enumerate(values)
        }

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore what :meth:`state` returned."""
        for name, value in state.items():
            index, field = name.split(".")
            self._state[field][int(index)].copy_(torch.from_numpy(value))
