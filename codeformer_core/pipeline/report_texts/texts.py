"""What a language has to offer; texts are format strings.

Beside Python's format specifications a field may have `one|many`, a number with the word that goes with it
("{count:face|faces}" is "2 faces"), or `percent`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The texts of a report in one language.

    events: kind -> text; its fields are the values of that kind of event.
    steps: what was done to faces -> its word.
    words: a value that is a word -> the same for people; others, such as names of files, stay.
    images, image: what was done in all images, and in one.
    first_step, next_step: how many faces a step had.
    face_at, face_number: what is to know of a face, by its place or number.
    faces_in_images, in_images: the same fact of several faces or images.
    more_images: where these are many.
    span: two numbers, all between them included.
    and_then, comma: between parts of a line.
    item: between words of a list.
    sentence: between sentences.
    column, mean: of a table of images.
    """

    events: Mapping[str, str]
    steps: Mapping[str, str]
    words: Mapping[str, str]
    images: str
    image: str
    first_step: str
    next_step: str
    face_at: str
    face_number: str
    faces_in_images: str
    in_images: str
    more_images: str
    span: str
    and_then: str
    comma: str
    item: str
    sentence: str
    column: str
    mean: str
