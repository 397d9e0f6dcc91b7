"""Networks as torch modules with frozen config dataclasses; they know nothing of files, images or hosts."""
