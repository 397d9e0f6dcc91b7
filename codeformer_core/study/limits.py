"""What the studies accept. Apart from them, because interfaces are defined by it before anything of them is needed."""

# How many fidelities are compared.
MIN_STEPS, MAX_STEPS = 2, 21
# The presets of training under the names of what they are for, without the one that is another's twin and the one that
# does nothing; then the fixed strengths of evaluations.
DEGRADATION_NAMES = (
    "small",
    "large",
    "photo",
    "gray",
    "paper",
    "colorization",
    "inpainting",
    "x2",
    "x4",
    "x8",
    "x16",
    "x30",
)
MAX_SEED = 2**64 - 1
