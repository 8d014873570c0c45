"""What all fields of a plate, or of a well, are normalised with, so that empty and crowded fields are treated alike.

Every sampled field is measured by itself, one at a time; what is kept of it is a few numbers. The noise belongs to
the camera: its figures are the medians over the fields, which neither an empty nor a saturated field moves. So is the
centre. The contrast is the median over those fields that have any: a field of nothing but noise has a contrast of
exactly one noise standard deviation, and says nothing about how specimens look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from hybridfusion_core.model.noise import FieldStatistics, NoiseModel

MOST_FIELDS = 96  # that a plate's statistics are taken from; the standard error of a median is then 13 % of the spread

Measured = Sequence[FieldStatistics]  # of one field, one for each decider
T = TypeVar("T")


def sampled(units: Sequence[T], most: int = MOST_FIELDS) -> tuple[T, ...]:
    """Choose units that are spread evenly, the first and the last among them; all if there are no more than `most`."""
    if len(units) <= most:
        return tuple(units)
    return tuple(units[index] for index in np.linspace(0, len(units) - 1, most).round().astype(int))


def common_statistics(fields: Sequence[Measured]) -> tuple[FieldStatistics, ...]:
    """Return the statistics that serve all fields.

    Args:
        fields: each one's own; those whose deciders have other numbers of channels than most are left out.

    Returns:
        One for each decider; none if there are no fields.
    """
    if not fields:
        return ()
    (signature, _), *_ = Counter(_signature(field) for field in fields).most_common(1)
    alike = [field for field in fields if _signature(field) == signature]
    return tuple(_common([field[number] for field in alike]) for number in range(len(signature)))


def _signature(field: Measured) -> tuple[int, ...]:
    return tuple(len(each.models) for each in field)


def _common(all_found: Sequence[FieldStatistics]) -> FieldStatistics:
    models = tuple(
        NoiseModel(
            low=_median([each.models[channel].low for each in all_found]),
            variance=_median([each.models[channel].variance for each in all_found]),
            gain=_median([each.models[channel].gain for each in all_found]),
        )
        for channel in range(len(all_found[0].models))
    )
    scales = [each.scale for each in all_found]
    return FieldStatistics(
        models,
        centre=_median([each.centre for each in all_found]),
        scale=_median([scale for scale in scales if scale > 1] or scales),
    )


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))
