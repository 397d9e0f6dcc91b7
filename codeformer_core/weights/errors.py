"""What is wrong with a weight file; a module of its own, because reading files takes far longer to import."""


class WeightsError(ValueError):
    """A file that can't be used as weights: names it, what was found, and the cure."""
