"""Dead codes: a short training without revival ends with a handful of codes in use.

Not part of the published recipe; the presets that use it say so.
Shape legend: B faces, D channels of a code, K codes, N vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..losses.codes import count_codes
from ..stages.stage import Output
from .processes import Processes


class CodeRevival:
    """Gives codes that nobody used for `every` steps a latent of the current faces, until step `until`.

    What it does depends on the faces and the step alone, however many processes and micro batches there are.
    """

    def __init__(self, codebook_size: int, every: int, until: int, seed: int, processes: Processes) -> None:
        self.every = every
        self.until = until
        self.seed = seed
        self.processes = processes
        self.uses_K = torch.zeros(codebook_size, dtype=torch.int64, device=processes.device)

    @torch.no_grad()
    def after_step(self, step: int, codebook: Tensor, outputs: Sequence[Output]) -> Tensor | None:
        """Count, and at every `every`-th step revive.

        outputs: of the step's micro batches.
        Returns the indices of the revived codes, or None.
        """
        if not self.every or step >= self.until:
            return None
        for output in outputs:
            assert output.codes_BT is not None  # stage I's own
            self.uses_K += self.processes.sum(count_codes(output.codes_BT, len(codebook)))
        if (step + 1) % self.every:
            return None
        dead_N = (self.uses_K == 0).nonzero().flatten()
        self.uses_K.zero_()
        if len(dead_N) == 0:
            return None
        # In the order of the global batch: its first part, of all processes, then the next.
        latents = [self.processes.gather(output.latent_BDHW.float()) for output in outputs]
        vectors_ND = torch.cat(latents).flatten(2).transpose(1, 2).flatten(0, 1)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        chosen_N = torch.randint(len(vectors_ND), (len(dead_N),), generator=generator)
        codebook[dead_N] = vectors_ND[chosen_N.to(vectors_ND.device)].to(codebook)
        return dead_N
