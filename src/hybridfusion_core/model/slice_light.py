"""How much light each slice got: what it is multiplied by to be like its neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SliceLight:
    """Light of the slices of one channel.

    Attributes:
        gains: by slice, > 0; 1 in geometric mean.
        dark: counts without light, which no gain changes.
    """

    gains: tuple[float, ...]
    dark: float

    def matched(self, counts: NDArray[Any], first: int = 0) -> NDArray[np.float32]:
        """Return counts Z Y X as they were in even light, not rounded; of all slices, or of some from `first` on."""
        gains = np.asarray(self.gains[first : first + len(counts)], np.float32)[:, np.newaxis, np.newaxis]
        dark = np.float32(self.dark)
        return np.asarray((counts.astype(np.float32) - dark) * gains + dark)

    @property
    def spread(self) -> float:
        """By which part the dimmest slice is below the brightest."""
        return 1 - min(self.gains) / max(self.gains)
