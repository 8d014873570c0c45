"""Whether the specimen moved sideways while the slices were taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, laplace, shift

from hybridfusion_core.assess.finding import Findings
from hybridfusion_core.assess.limits import DRIFT_PX
from hybridfusion_core.assess.looked_at import LookedAt

_BLURS = 6.0, 2.5  # px; detail is followed coarsely first
_ALIKE_PIXELS = 4 * np.pi * _BLURS[-1] ** 2  # that a blur makes one
_LEAST_STRUCTURE = 0.03  # of a square
_PART = 48  # px, of the squares that are followed one by one
_FEWEST, _MOST = 4, 48  # squares
_LEAST_ALIKE = 0.8  # correlation of a square in two neighbouring slices
_SURE = 6.0  # standard errors, as the squares' disagreement shows them; what tilts moves them alike
_SURE_STEADY = 5.0  # likewise, where all steps together say it: sound stacks stay below 4
_STEPS = 2.0  # that say as much as the weighted ones, at least, where a pace is carried on
_UNKNOWN = 1e3  # px, standard error of a step of which nothing is known
_UNSURE_PX = 0.4  # standard error above which nothing is said
_LARGEST_STEP = 8.0  # px; more between two slices is a mistake


def judge_drift(seen: LookedAt, found: Findings) -> None:
    """Follow detail from slice to slice in many squares, and say how far they all moved."""
    guides = [part for tile in seen.tiles for part in _squares(tile.guide, tile.structure)][:_MOST]
    path = common_path(guides) if len(guides) >= _FEWEST else None
    moves = [] if path is None else [move for move in (extent(*path), steady(*path)) if move is not None]
    if not moves:
        return
    sure = [move for move in moves if move.is_drift]
    move = max(sure, key=lambda each: each.apart) if sure else min(moves, key=lambda each: each.error)
    found.add(
        "drift",
        move.apart,
        "px",
        f"below {DRIFT_PX:g}",
        f"Between two of the slices the specimen moved sideways by up to {move.apart:.1f} px "
        f"(± {move.error:.1f}, from {len(guides)} squares).",
    )
    if sure:
        found.warn(
            "drift",
            "drift",
            f"The slices lie up to {move.apart:.1f} px beside each other: edges come out doubled or broken where "
            "slices meet. Align them (--align shift).",
        )


@dataclass(frozen=True)
class Move:
    """How far two slices lie apart.

    Attributes:
        apart: pixels.
        error: standard error, pixels.
        sure: standard errors from which on it is no chance.
    """

    apart: float
    error: float
    sure: float

    @property
    def is_drift(self) -> bool:
        """It is no chance, and matters."""
        return self.apart > max(self.sure * self.error, DRIFT_PX) and self.error < _UNSURE_PX


def extent(steps: NDArray[np.float64], errors: NDArray[np.float64]) -> Move | None:
    """Surest distance between two slices of a path; None if no step is known.

    Args:
        steps: n 2, from each slice to the next one, pixels.
        errors: n, standard error of each, infinite where nothing is known.
    """
    if not np.isfinite(errors).any():
        return None
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    known = np.concatenate([[0.0], np.cumsum(np.minimum(errors, _UNKNOWN) ** 2)])
    away = np.linalg.norm(path[:, None] - path[None], axis=-1)
    error = np.sqrt(np.abs(known[:, None] - known[None]))
    sure = away - _SURE * error
    np.fill_diagonal(sure, -np.inf)
    a, b = np.unravel_index(int(sure.argmax()), away.shape)
    return Move(float(away[a, b]), float(error[a, b]), _SURE)


def steady(steps: NDArray[np.float64], errors: NDArray[np.float64]) -> Move | None:
    """Distance between the first and the last slice if the specimen moves at one pace, as warming stages do.

    Where slices out of focus between two sharp ones leave the path uncertain, the pace is still known from the others.

    Args:
        steps: n 2, from each slice to the next one, pixels.
        errors: n, standard error of each, infinite where nothing is known.

    Returns:
        The move, its error enlarged as far as the steps disagree; None if it would rest on a single step.
    """
    weights = errors**-2.0
    if not weights.any() or weights.sum() ** 2 < _STEPS * np.square(weights).sum():
        return None
    pace = weights @ steps / weights.sum()
    apart = float((weights * np.square(steps - pace).sum(axis=1)).sum()) / 2
    inflated = max(1.0, apart / max(int((weights > 0).sum()) - 1, 1))
    error = len(steps) * float(np.sqrt(inflated / weights.sum()))
    return Move(len(steps) * float(np.linalg.norm(pace)), error, _SURE_STEADY)


def common_path(guides: list[NDArray[np.float32]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How squares, Z Y X each, move together: steps n 2, and standard errors n, infinite where they share nothing."""
    followed = [_blurred(guide) for guide in guides]
    steps, errors = [], []
    for z in range(1, len(guides[0])):
        move, error = np.zeros(2), np.inf
        for scale in range(len(_BLURS)):
            pairs = [(shift(each[scale][z - 1], move, order=1, mode="nearest"), each[scale][z]) for each in followed]
            more, error = _together([_move(before, after) for before, after in pairs])
            move = move + more
        known = np.isfinite(error) and np.abs(move).max() <= _LARGEST_STEP
        steps.append(move if known else np.zeros(2))
        errors.append(error if known else np.inf)
    return np.array(steps), np.array(errors)


def _squares(guide: NDArray[np.float32], structure: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
    side = min(_PART, *guide.shape[1:])
    rows, columns = (range(0, size - side + 1, side) for size in guide.shape[1:])
    return [
        guide[:, y : y + side, x : x + side]
        for y in rows
        for x in columns
        if structure[y : y + side, x : x + side].mean() > _LEAST_STRUCTURE
    ]


def _blurred(guide: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [np.stack([gaussian_filter(plane, sigma) for plane in guide]) for sigma in _BLURS]


def _together(moves: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> tuple[NDArray[np.float64], float]:
    """Mean of moves, each counted by what is known of it, and its standard error as their disagreement shows it."""
    information = np.sum([known for _, known in moves], axis=0)
    if sum(bool(known.any()) for _, known in moves) < _FEWEST or np.linalg.det(information) <= 0:
        return np.zeros(2), np.inf
    covariance = np.linalg.inv(information)
    mean = covariance @ np.sum([known @ move for move, known in moves], axis=0)
    apart = np.mean([(move - mean) @ known @ (move - mean) for move, known in moves]) / 2
    inflated = max(1.0, float(apart) * len(moves) / max(len(moves) - 1, 1))
    return mean, float(np.sqrt(inflated * np.trace(covariance) / 2))


def _move(before: NDArray[np.float32], after: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By how much one picture lies beside another, Y and X in pixels, and what is known of that, 2 2.

    To first order a picture that moves by s changes by −s·∇; one that leaves the focus changes by its Laplacian, and
    one that is lit otherwise by itself: all of it is fitted at once (Lucas & Kanade 1981), so that blur passes for no
    move.
    """
    window = (np.hanning(before.shape[0])[:, None] * np.hanning(before.shape[1]))[..., None]
    middle = (before + after) / 2  # so that neither direction is preferred
    along_y, along_x = np.gradient(middle)
    terms = np.stack([along_y, along_x, laplace(middle), middle, np.ones_like(middle)], axis=-1) * window
    terms, change = terms.reshape(-1, 5).astype(np.float64), ((after - before) * window[..., 0]).ravel()
    normal = terms.T @ terms
    normal[np.diag_indices(5)] += 1e-9 * np.trace(normal) + 1e-12
    found = np.linalg.solve(normal, terms.T @ change)
    left = float(np.square(change - terms @ found).mean()) + 1e-12
    # What is known of the move once the other three are free (the Schur complement).
    known = normal[:2, :2] - normal[:2, 2:] @ np.linalg.solve(normal[2:, 2:], normal[2:, :2])
    spread = [((each - each.mean()) * window[..., 0]).ravel() for each in (before, after)]
    alike = float(spread[0] @ spread[1]) / (float(np.linalg.norm(spread[0]) * np.linalg.norm(spread[1])) + 1e-12)
    return np.asarray(-found[:2], dtype=np.float64), known / left / _ALIKE_PIXELS * (alike > _LEAST_ALIKE)
