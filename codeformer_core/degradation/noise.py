"""Gaussian noise from a seed and a counter: the same integers on every device, the same numbers up to float rounding.

Generators of torch differ between CPU and GPU, and between torch's releases; a hash of (seed, place) doesn't.
Two hashed counters make two normal numbers (Box and Muller, 1958).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

# What is hashed: a number, or many of them (int64).
Bits = TypeVar("Bits", int, Tensor)

MASK = 0xFFFFFFFF
SEED_BITS = 31
# Two multipliers and three shifts of a well mixing 32-bit hash (github.com/skeeto/hash-prospector, public domain).
# Both are under 2^31, so that their products with 32-bit numbers fit into signed 64 bits.
MULTIPLIERS = (0x21F0AAAD, 0x735A2D97)
SHIFTS = (16, 15, 15)
UNIFORM_BITS = 24  # what a float32 holds


def normals(seed: int, count: int) -> np.ndarray:
    """(count,) float32 of mean 0 and deviation 1, at most 5.9 away from 0.

    seed: 0..2^62-1.
    """
    hashes = hashes_of(seed, count + count % 2)
    uniforms = ((hashes >> (32 - UNIFORM_BITS)).astype(np.float32) + np.float32(0.5)) * np.float32(2**-UNIFORM_BITS)
    radius = np.sqrt(-2 * np.log(uniforms[0::2]))
    angle = uniforms[1::2] * np.float32(2 * math.pi)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1)[:count]


def normals_batch(seeds: Sequence[int], count: int, device: torch.device) -> Tensor:
    """`normals` of each seed, (B, count) float32 on the device."""
    hashes = hashes_batch(seeds, count + count % 2, device)
    uniforms = ((hashes >> (32 - UNIFORM_BITS)).float() + 0.5) * 2**-UNIFORM_BITS
    radius = torch.sqrt(-2 * torch.log(uniforms[:, 0::2]))
    angle = uniforms[:, 1::2] * (2 * math.pi)
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1).flatten(1)[:, :count]


def hashes_of(seed: int, count: int) -> np.ndarray:
    """(count,) uint32: the hash of each place from 0 on.

    seed: 0..2^62-1.
    """
    first, second = (np.uint32(key) for key in _keys(seed))
    hashes = np.arange(count, dtype=np.uint32) ^ first
    for key in (second, None):
        for shift, multiplier in zip(SHIFTS, MULTIPLIERS, strict=False):
            hashes ^= hashes >> np.uint32(shift)
            hashes *= np.uint32(multiplier)  # wraps around at 2^32
        hashes ^= hashes >> np.uint32(SHIFTS[-1])
        if key is not None:
            hashes ^= key
    return hashes


def hashes_batch(seeds: Sequence[int], count: int, device: torch.device) -> Tensor:
    """`hashes_of` each seed, (B, count) int64 on the device."""
    if device.type == "cpu":  # numpy computes modulo 2^32, in a fifth of the time
        return torch.from_numpy(np.stack([hashes_of(seed, count) for seed in seeds]).astype(np.int64))
    keys_2B1 = torch.tensor([_keys(seed) for seed in seeds], device=device).T[..., None]
    return _hash(torch.arange(count, device=device), keys_2B1[0], keys_2B1[1])


def bytes_batch(seeds: Sequence[int], count: int, device: torch.device) -> Tensor:
    """The four bytes of `hashes_of` each seed, (B, 4, count) uint8 on the device, the lowest byte first."""
    if device.type == "cpu":
        bytes_BN4 = np.stack([hashes_of(seed, count).astype("<u4").view(np.uint8).reshape(-1, 4) for seed in seeds])
        return torch.from_numpy(bytes_BN4).transpose(1, 2)
    return bytes_of(hashes_batch(seeds, count, device))


def bytes_of(hashes_BN: Tensor) -> Tensor:
    """(B, 4, N) uint8, the lowest byte first.

    hashes_BN: int64 in 0..2^32-1.
    """
    return torch.stack([(hashes_BN >> shift & 255).to(torch.uint8) for shift in (0, 8, 16, 24)], dim=1)


def _keys(seed: int) -> tuple[int, int]:
    """Two numbers of 32 bits; each depends on every bit of the seed, or seeds alike would give noises alike."""
    if not 0 <= seed < 1 << (2 * SEED_BITS):
        raise ValueError(f"the noise seed must be from 0 to 2^62 - 1, got {seed}")
    low, high = seed & ((1 << SEED_BITS) - 1), seed >> SEED_BITS
    first = _mix(_mix(low + 1) ^ high)
    return first, _mix(_mix(high + 1) ^ low ^ first)


def _hash(counters: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """torch int64 -> the same in 0..2^32-1."""
    return _mix(_mix(counters ^ first) ^ second)


def _mix(values: Bits) -> Bits:
    """32 bits to 32 others, one to one; of an int or of int64 in torch."""
    for shift, multiplier in zip(SHIFTS, MULTIPLIERS, strict=False):
        values = ((values ^ (values >> shift)) * multiplier) & MASK
    return values ^ (values >> SHIFTS[-1])
