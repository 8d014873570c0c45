"""The slices behind a fused plane: how many there were and where they lay, which the plane itself no longer shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.stack import Axis


@dataclass(frozen=True)
class Depth:
    """Where the slices of a stack lie along Z.

    Attributes:
        slices: how many there are.
        z: step between them.
        positions_um: of every slice, where they are known one by one; else None.
    """

    slices: int
    z: Axis
    positions_um: tuple[float, ...] | None = None

    @classmethod
    def recorded(cls, record: Mapping[str, Any], z: Axis, otherwise: int = 1) -> Depth:
        """Read it from the provenance of a result, where it stands under "slices" and "z_positions_um".

        Args:
            record: the provenance; what is missing in it, or is nothing of the kind, is not known.
            z: step between the slices.
            otherwise: how many slices there are if the record does not say.
        """
        slices, positions = record.get("slices"), record.get("z_positions_um")
        if not isinstance(slices, int) or slices < 1:
            return cls(otherwise, z)
        if not isinstance(positions, list) or len(positions) != slices:
            return cls(slices, z)
        return cls(slices, z, tuple(float(each) for each in positions))

    def record(self) -> dict[str, Any]:
        """Return it as a provenance has it, in plain JSON values."""
        return {"slices": self.slices, "z_positions_um": None if self.positions_um is None else [*self.positions_um]}

    @property
    def axis(self) -> Axis:
        """The step along Z; there is only one, so that of irregular positions is their mean."""
        positions = self.positions_um
        if positions is None or len(positions) < 2:
            return self.z
        mean = abs(positions[-1] - positions[0]) / (len(positions) - 1)
        return Axis(mean, "micrometer") if mean > 0 else self.z

    def index(self, heights_um: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn heights into places between slices.

        Args:
            heights_um: any shape, µm; NaN where there is none.

        Returns:
            Same shape, 0 at the first slice; NaN where there is no height.
        """
        if self.positions_um is not None:
            positions = np.asarray(self.positions_um)
            order = np.argsort(positions)
            return np.interp(heights_um, positions[order], order).astype(np.float32)
        # Of files that lost their step, heights in µm are all that is left to go by.
        return np.asarray(heights_um / (self.axis.step_um or 1.0), dtype=np.float32)
