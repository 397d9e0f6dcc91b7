"""Rows and sets of features, gathered batch by batch.

Shape legend: B faces, H W height and width, 3 colours RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ...metrics.kinds import FaceMetric, ReferenceMetric, SetMetric, check_pair
from .choose import Metrics
from .results import TO_INPUT, Group, Row


class Gatherer:
    """Measures batches of faces; at the end a distance per group and set metric."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.rows: list[Row] = []
        self._made: dict[tuple[str, Group], list[np.ndarray]] = {}
        self._clean: dict[str, list[np.ndarray]] = {}
        # The batch of clean faces that was added last, and what metrics keep of it.
        self._batch_B3HW: Tensor | None = None
        self._references: dict[str, Any] = {}

    def add(
        self,
        group: Group,
        names: Sequence[str],
        made_B3HW: Tensor,
        clean_B3HW: Tensor,
        input_B3HW: Tensor | None = None,
    ) -> None:
        """Rows for a batch. made, clean: RGB in [0, 1]; input: the degraded faces, where they are known."""
        check_pair(made_B3HW, clean_B3HW)
        values = {metric.name: self._measured(metric, made_B3HW, clean_B3HW) for metric in self._metrics.per_face}
        values |= {metric.name: metric.derive(values[metric.source]) for metric in self._metrics.derived}
        measured: dict[str, list[float]] = {name: values_B.cpu().numpy().tolist() for name, values_B in values.items()}
        if input_B3HW is not None:
            measured[TO_INPUT] = ((made_B3HW - input_B3HW).abs().mean((1, 2, 3)).cpu().double() * 255).numpy().tolist()
        for index, name in enumerate(names):
            self.rows.append(Row(name, group, {metric: values[index] for metric, values in measured.items()}))
        for metric in self._metrics.per_set:
            self._made.setdefault((metric.name, group), []).append(metric.features(made_B3HW))

    def add_clean(self, clean_B3HW: Tensor) -> None:
        """To be called once for every clean face, before groups are compared with it, however many they are."""
        self._batch_B3HW = clean_B3HW
        self._references = {
            metric.name: metric.reference(clean_B3HW)
            for metric in self._metrics.per_face
            if isinstance(metric, ReferenceMetric)
        }
        for metric in self._metrics.per_set:
            if not metric.has_reference:
                self._clean.setdefault(metric.name, []).append(metric.features(clean_B3HW))

    def _measured(self, metric: FaceMetric, made_B3HW: Tensor, clean_B3HW: Tensor) -> Tensor:
        if isinstance(metric, ReferenceMetric) and clean_B3HW is self._batch_B3HW:
            return metric.measure_to(made_B3HW, self._references[metric.name])
        return metric.measure(made_B3HW, clean_B3HW)

    def set_distances(self) -> dict[Group, dict[str, float]]:
        distances: dict[Group, dict[str, float]] = {}
        by_name: dict[str, SetMetric] = {metric.name: metric for metric in self._metrics.per_set}
        for (name, group), parts in self._made.items():
            clean = np.concatenate(self._clean[name]) if name in self._clean else None
            distances.setdefault(group, {})[name] = by_name[name].distance(np.concatenate(parts), clean)
        return distances
