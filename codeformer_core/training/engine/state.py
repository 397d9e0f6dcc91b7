"""Everything that changes while training, as named tensors and back: what a checkpoint holds.

All randomness of data comes from the seed and the step, so beside weights, averages and optimisers only torch's own
random states are kept, one for each process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .adversary import Adversary
from .processes import Processes


@dataclass(frozen=True)
class TrainingState:
    """Everything that changes while training.

    uses_K: how often each code was used since the last revival, stage I only.
    """

    network: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Adam
    adversary: Adversary | None
    uses_K: Tensor | None
    processes: Processes

    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor, contiguous, detached."""
        found = {
            **_prefixed("network", self.network.state_dict()),
            **_prefixed("average", self.average.state_dict()),
            **_prefixed("optimizer", _moments(self.network, self.optimizer)),
            **self._random_states(),
        }
        if self.adversary is not None:
            found |= _prefixed("discriminator", self.adversary.network.state_dict())
            found |= _prefixed("discriminator_optimizer", _moments(self.adversary.network, self.adversary.optimizer))
        if self.uses_K is not None:
            found["code_uses"] = self.uses_K
        return {name: tensor.detach().contiguous() for name, tensor in found.items()}

    def bytes_in_checkpoint(self) -> int:
        """What a checkpoint takes once both optimisers have made a step."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())
        optimizers = [self.optimizer] + ([self.adversary.optimizer] if self.adversary is not None else [])
        for optimizer in optimizers:
            for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
                if parameter not in optimizer.state:
                    size += 2 * parameter.numel() * parameter.element_size()
        return size

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`. Raises ValueError naming what is missing."""
        try:
            self.network.load_state_dict(_under("network", tensors))
            self.average.load_state_dict(_under("average", tensors))
            _restore_moments(self.network, self.optimizer, _under("optimizer", tensors))
            if self.adversary is not None:
                self.adversary.network.load_state_dict(_under("discriminator", tensors))
                moments = _under("discriminator_optimizer", tensors)
                _restore_moments(self.adversary.network, self.adversary.optimizer, moments)
            if self.uses_K is not None:
                self.uses_K.copy_(tensors["code_uses"])
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"the checkpoint doesn't fit this run: {' '.join(str(error).split())[:300]}") from error
        self._restore_random_states(tensors)

    def _random_states(self) -> dict[str, Tensor]:
        states = {f"random.{self.processes.rank}.cpu": torch.get_rng_state()}
        if self.processes.device.type == "cuda":
            states[f"random.{self.processes.rank}.cuda"] = torch.cuda.get_rng_state(self.processes.device)
        return states

    def _restore_random_states(self, tensors: Mapping[str, Tensor]) -> None:
        """A run may continue with more processes or on another device; those have no state to take up."""
        cpu = tensors.get(f"random.{self.processes.rank}.cpu")
        cuda = tensors.get(f"random.{self.processes.rank}.cuda")
        if cpu is not None:
            torch.set_rng_state(cpu)
        if cuda is not None and self.processes.device.type == "cuda":
            torch.cuda.set_rng_state(cuda, self.processes.device)


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def _moments(network: nn.Module, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Adam's state by parameter: "encoder.conv_in.weight.exp_avg". Empty before a parameter's first step."""
    return {
        f"{name}.{key}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore_moments(network: nn.Module, optimizer: torch.optim.Adam, moments: Mapping[str, Tensor]) -> None:
    for name, parameter in network.named_parameters():
        own = {key: moments[f"{name}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{name}.{key}" in moments}
        if own:
            optimizer.state[parameter] = {
                # Adam counts steps on the CPU; the moments lie in memory as their parameter does.
                key: value.clone() if key == "step" else torch.empty_like(parameter).copy_(value)
                for key, value in own.items()
            }
