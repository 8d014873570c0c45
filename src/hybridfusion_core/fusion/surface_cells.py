"""The cells that a surface is found over, and the memory that this takes. Integers only."""

from __future__ import annotations

import math

_CELLS = (4, 8, 16)  # px, the side of a cell: the smallest of which there are not too many; divisors of every lattice
_LARGEST = 1 << 26  # cells × slices
_HELD = {1: 4.3, 2: 6.5}  # times 4 bytes of each are held at the most, for one surface and for two (measured)


def cell_side(plane: tuple[int, int], slices: int) -> int | None:
    """Return the side of the cells of a plane in pixels; None if it is too large for any.

    Args:
        plane: Y and X.
        slices: how many of them take part.
    """
    return next((cell for cell in _CELLS if slices * math.prod(cells_of(plane, cell)) <= _LARGEST), None)


def cells_of(plane: tuple[int, int], cell: int) -> tuple[int, int]:
    """Return how many cells of a side there are along Y and X, the last ones perhaps of fewer pixels."""
    return -(-plane[0] // cell), -(-plane[1] // cell)


def evidence_bytes(plane: tuple[int, int], slices: int) -> int:
    """Return what the evidence for every slice takes while tiles are scored."""
    return 4 * slices * math.prod(cells_of(plane, cell_side(plane, slices) or _CELLS[-1]))


def solver_bytes(plane: tuple[int, int], slices: int, surfaces: int) -> int:
    """Return what finding surfaces takes, evidence included.

    Args:
        plane: Y and X.
        slices: how many of them take part.
        surfaces: 1 or 2 that are told apart.
    """
    return round(_HELD[surfaces] * evidence_bytes(plane, slices))
