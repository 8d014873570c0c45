"""Whether the specimen moved sideways while the slices were taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, laplace, shift

from hybridfusion_core.assess.finding import Findings
from hybridfusion_core.assess.looked_at import LookedAt

_BLURS = 6.0, 2.5  # px; detail is followed coarsely first
_ALIKE_PIXELS = 4 * np.pi * _BLURS[-1] ** 2  # that a blur makes one
_LEAST_STRUCTURE = 0.03  # of a square
_PART = 48  # px, of the squares that are followed one by one
_FEWEST, _MOST = 8, 48  # squares
_LEAST_ALIKE = 0.8  # correlation of a square in two neighbouring slices
_DRIFT_PX = 1.0
_SURE = (
    8.0  # standard errors, as the squares' disagreement shows them, that some pair lies apart: tilt moves them alike
)
_SEEN_PX = 0.4  # that this pair lies apart at least
_LIKELY = 2.0  # standard errors taken off where the farthest pair is looked for
_UNSURE_PX = 0.4  # standard error above which nothing is said
_LARGEST_STEP = 8.0  # px; more between two slices is a mistake


def judge_drift(seen: LookedAt, found: Findings) -> None:
    """Follow detail from slice to slice in many squares, and say how far they all moved."""
    guides = [part for tile in seen.tiles for part in _squares(tile.guide, tile.structure)][:_MOST]
    if len(guides) < _FEWEST:
        return
    apart, error, sure = extent(*common_path(guides))
    if not np.isfinite(error):
        return
    found.add(
        "drift",
        apart,
        "px",
        f"below {_DRIFT_PX:g}",
        f"Between two of the slices the specimen moved sideways by up to {apart:.1f} px "
        f"(± {error:.1f}, from {len(guides)} squares).",
    )
    if sure and apart > _DRIFT_PX:
        found.warn(
            "drift",
            "drift",
            f"The slices lie up to {apart:.1f} px beside each other: edges come out doubled or broken where slices "
            "meet. Align "
            "them (--align shift).",
        )


def extent(steps: NDArray[np.float64], errors: NDArray[np.float64]) -> tuple[float, float, bool]:
    """Farthest that two slices of a path lie apart, as far as it is known, and whether the path moves at all.

    The pair that is surest to lie apart is seldom the farthest one: slices out of focus are known less well. So one
    pair shows that there is drift, and another how much.

    Args:
        steps: n 2, from each slice to the next one.
        errors: n, standard error of each; infinite where a step is not known, which parts the path.

    Returns:
        Distance and its standard error, in pixels, the error infinite if no pair is known; whether some pair surely
        lies apart.
    """
    known = np.isfinite(errors)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(np.where(known[:, None], steps, 0), axis=0)])
    variance = np.concatenate([[0.0], np.cumsum(np.where(known, errors, 0) ** 2)])
    part = np.concatenate([[0], np.cumsum(~known)])
    away = np.linalg.norm(path[:, None] - path[None], axis=-1)
    error = np.sqrt(np.abs(variance[:, None] - variance[None]))
    error[(part[:, None] != part[None]) | np.eye(len(path), dtype=bool) | (error > _UNSURE_PX)] = np.inf
    sure = (away > _SURE * error) & (away > _SEEN_PX)
    a, b = np.unravel_index(int((away - _LIKELY * error).argmax()), away.shape)
    return float(away[a, b]), float(error[a, b]), bool(sure.any())


def common_path(guides: list[NDArray[np.float32]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How squares, Z Y X each, move together: steps n 2 and standard errors n, infinite where nothing is shared."""
    followed = [_blurred(guide) for guide in guides]
    found = [_step([[each[z - 1 : z + 1] for each in scales] for scales in followed]) for z in range(1, len(guides[0]))]
    return np.array([move for move, _ in found]), np.array([error for _, error in found])


def _step(pairs: list[list[NDArray[np.float32]]]) -> tuple[NDArray[np.float64], float]:
    """How all squares move from one slice to the next, coarse detail first; of each square its pair by scale."""
    move, error = np.zeros(2), np.inf
    for scale in range(len(_BLURS)):
        moved = [(shift(each[scale][0], move, order=1, mode="nearest"), each[scale][1]) for each in pairs]
        more, error = _together([_move(before, after) for before, after in moved])
        move = move + more
    return move, error if np.abs(move).max() <= _LARGEST_STEP else np.inf


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
