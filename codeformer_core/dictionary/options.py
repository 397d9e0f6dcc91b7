"""What a dictionary is to be, checked before anything is begun."""

from __future__ import annotations

from dataclasses import dataclass

# What k-means takes.
MAX_DICTIONARY_SEED = 2**32 - 1


@dataclass(frozen=True)
class DictionaryOptions:
    """How a dictionary is built. Raises ValueError for values out of range.

    atoms: K, of each part at each scale; the published dictionaries have 512.
    seed: which faces the clusters begin with and the order in which faces come.
    passes: how often every face comes.
    """

    atoms: int = 512
    seed: int = 0
    passes: int = 10

    def __post_init__(self) -> None:
        if self.atoms < 1:
            raise ValueError(f"the number of atoms (k) must be 1 or more, got {self.atoms}")
        if not 0 <= self.seed <= MAX_DICTIONARY_SEED:
            raise ValueError(f"seed must be from 0 to {MAX_DICTIONARY_SEED}, got {self.seed}")
        if self.passes < 1:
            raise ValueError(f"passes must be 1 or more, got {self.passes}")

    def check_faces(self, faces: int, left_out: int = 0) -> None:
        """Raises ValueError where there are fewer faces than atoms."""
        if faces < self.atoms:
            but = f" ({left_out} more were left out, the log says why)" if left_out else ""
            fewer = f"Ask for fewer atoms (k {faces} at most), or give" if faces else "Give"
            raise ValueError(
                f"{self.atoms} atoms need {self.atoms} faces or more, and there are {faces}{but}. {fewer} more faces"
            )
