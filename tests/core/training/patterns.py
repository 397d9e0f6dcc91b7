"""A tiny network and made-up faces for measuring."""

from __future__ import annotations

import numpy as np
from PIL import Image

from codeformer_core.networks.codeformer import CodeFormerConfig
from codeformer_core.networks.vqgan import AutoencoderConfig
from codeformer_core.training.data.files import BrokenFace

CONFIG = CodeFormerConfig(
    autoencoder=AutoencoderConfig(
        image_size=32,
        base_channels=32,
        channel_multipliers=(1, 1),
        residual_blocks=1,
        attention_sizes=(),
        codebook_size=12,
        code_channels=32,
    ),
    width=32,
    layers=1,
    heads=4,
    mlp_width=32,
    fuse_sizes=(32,),
)


class PatternFaces:
    """Smooth random pictures of 32 pixels; those in `broken` can't be read."""

    def __init__(self, count: int, seed: int = 0, broken: tuple[int, ...] = ()) -> None:
        self.names = tuple(f"face{index:02d}.png" for index in range(count))
        self.fingerprint = f"{seed}-{count}"
        self._seed = seed
        self._broken = broken

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> np.ndarray:
        if index in self._broken:
            raise BrokenFace(f"{self.names[index]}: cut off")
        coarse = np.random.default_rng((self._seed, index)).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC))
