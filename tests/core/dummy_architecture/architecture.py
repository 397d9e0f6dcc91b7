"""The network as an architecture: only what every architecture must say."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from codeformer_core.models.architecture import ASSUMED_IMAGE_SIZE, Architecture, Layout, RestoreRequest
from codeformer_core.weights.metadata import CheckpointMetadata

from .network import Gain, GainConfig


class GainArchitecture(Architecture):
    id = "gain"
    title = "Gain"
    config_types = (GainConfig,)

    def detect(self, state: Mapping[str, object]) -> bool:
        return "gain.weight" in state

    def read_config(self, state: Mapping[str, Tensor], layout: Layout, metadata: CheckpointMetadata) -> GainConfig:
        return GainConfig(metadata.image_size or ASSUMED_IMAGE_SIZE)

    def empty_network(self, config: GainConfig, *, device=None, dtype=None, operations=nn) -> Gain:
        return Gain(config, device=device, dtype=dtype, operations=operations)

    def uses_fidelity(self, network: Gain) -> bool:
        return True

    def floats_per_face(self, network: Gain) -> int:
        return 6 * network.config.image_size**2

    def restore(self, network: Gain, faces_B3SS: Tensor, request: RestoreRequest) -> Tensor:
        return network(faces_B3SS, request.fidelity)


DUMMY = GainArchitecture()
