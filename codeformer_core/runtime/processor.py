"""What the processor is fast at."""

from __future__ import annotations

import torch


def has_fast_bfloat16() -> bool:
    """Whether an x86 processor has instructions for bfloat16 (AVX512-BF16, AMX); False where torch doesn't tell."""
    # Older versions of torch don't have it.
    capabilities = getattr(torch.cpu, "get_capabilities", dict[str, object])()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
