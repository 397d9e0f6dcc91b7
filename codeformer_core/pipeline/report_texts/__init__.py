"""What a report says, one table per language."""

from __future__ import annotations

from .en import ENGLISH
from .texts import Texts
from .zh import CHINESE

LANGUAGES: dict[str, Texts] = {"en": ENGLISH, "zh": CHINESE}
