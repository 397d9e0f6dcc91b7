"""How badly a face is damaged, as one number: what ties a training step's fidelity to its input."""

from __future__ import annotations

import math

from .draw import Drawn
from .ranges import REFERENCE_SIZE

# The worst of the preset `large`, which has damage 1.
WORST_SIGMA, WORST_DOWNSCALE, WORST_NOISE, WORST_QUALITY = 15.0, 30.0, 20.0, 30
PIXEL = 1.0  # sigma of a face that lost nothing; what is far below it isn't seen
# A face shrunk r times is about as sharp as one blurred by sigma r/2.
SIGMA_OF_DOWNSCALE = 0.5
RESOLUTION, NOISE, JPEG = 0.8, 0.1, 0.1  # shares of the sum


def damage_of(drawn: Drawn) -> float:
    """How much of a face's detail is lost: 0 for an unchanged face, 1 for the worst of `large` and for what is worse.

        damage = 0.8 log(spread) / log(worst spread) + 0.1 noise / 20 + 0.1 (100 - quality) / 70, each part at most
        its factor

    spread is the effective sigma in pixels of a 512 face: sqrt(1 + blur^2 + lens^2 + scan^2 + (r^2 - 1) / 4), with
    r = size / low_size and blur^2 the mean over both axes. noise is that of sensor and grain together. So damage grows
    with blur, downscale and noise, and as the quality falls. White strokes, scratches, screens, fading and colours
    don't count: they leave the detail beside them, or under them, as it is.

    drawn: what happens to the face.
    Returns a number in [0, 1].
    """
    scale = REFERENCE_SIZE / drawn.size
    blur = 0.0
    if drawn.blur is not None:
        blur = (drawn.blur.sigma_x**2 + drawn.blur.sigma_y**2) / 2 * scale**2
    blur += sum(((sigma or 0.0) * scale) ** 2 for sigma in (drawn.lens_sigma, drawn.scan_sigma))
    spread = _spread(blur, drawn.size / drawn.smallest)
    resolution = math.log(spread) / math.log(_spread(WORST_SIGMA**2, WORST_DOWNSCALE))
    grain = 0.0 if drawn.grain is None else drawn.grain.strength
    noise = math.hypot(drawn.noise_sigma or 0.0, grain) / WORST_NOISE
    quality = 100 if drawn.jpeg_quality is None else drawn.jpeg_quality
    jpeg = (100 - quality) / (100 - WORST_QUALITY)
    return RESOLUTION * min(resolution, 1) + NOISE * min(noise, 1) + JPEG * min(jpeg, 1)


def _spread(variance: float, downscale: float) -> float:
    return math.sqrt(PIXEL**2 + variance + SIGMA_OF_DOWNSCALE**2 * (downscale**2 - 1))
