"""Rows and sets of features, gathered batch by batch.

Shape legend: B faces, H W height and width, 3 colours RGB.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..metrics.kinds import SetMetric
from .choose import Metrics
from .results import TO_INPUT, Group, Row


class Gatherer:
    """Measures batches of faces; at the end a distance per group and set metric."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.rows: list[Row] = []
        self._made: dict[tuple[str, Group], list[np.ndarray]] = {}
        self._clean: dict[str, list[np.ndarray]] = {}

    def add(
        self,
        group: Group,
        names: Sequence[str],
        made_B3HW: Tensor,
        clean_B3HW: Tensor,
        input_B3HW: Tensor | None = None,
    ) -> None:
        """Rows for a batch. made, clean: RGB in [0, 1]; input: the degraded faces, where they are known."""
        measured = {metric.name: metric.measure(made_B3HW, clean_B3HW).tolist() for metric in self._metrics.per_face}
        if input_B3HW is not None:
            measured[TO_INPUT] = ((made_B3HW - input_B3HW).abs().double().mean((1, 2, 3)) * 255).tolist()
        for index, name in enumerate(names):
            self.rows.append(Row(name, group, {metric: values[index] for metric, values in measured.items()}))
        for metric in self._metrics.per_set:
            self._made.setdefault((metric.name, group), []).append(metric.features(made_B3HW))

    def add_clean(self, clean_B3HW: Tensor) -> None:
        """To be called once for every clean face, however many groups are compared with it."""
        for metric in self._metrics.per_set:
            if not metric.has_reference:
                self._clean.setdefault(metric.name, []).append(metric.features(clean_B3HW))

    def set_distances(self) -> dict[Group, dict[str, float]]:
        distances: dict[Group, dict[str, float]] = {}
        by_name: dict[str, SetMetric] = {metric.name: metric for metric in self._metrics.per_set}
        for (name, group), parts in self._made.items():
            clean = np.concatenate(self._clean[name]) if name in self._clean else None
            distances.setdefault(group, {})[name] = by_name[name].distance(np.concatenate(parts), clean)
        return distances
