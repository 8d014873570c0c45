"""Decisions that people corrected by hand, as something to learn from: the painted slice is the right one there.

Where "nothing in focus" was painted nothing is asked: no slice would be right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridfusion_core.errors import UserInputError, printable
from hybridfusion_core.fusion.tiles import reflected
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.io.result_spec import quantity_of
from hybridfusion_core.io.suffixes import result_paths
from hybridfusion_core.io.verify import stored_provenance
from hybridfusion_core.model.network import HybridFusionNet
from hybridfusion_core.train.finetune.crops import SIDE, FieldReader, field_readers
from hybridfusion_core.train.finetune.sources import Sources
from hybridfusion_core.train.losses.supervised import focus_cross_entropy
from hybridfusion_core.train.recipe import Recipe

_MAP = "corrected"
_MOST = 16  # parts of one result
_DEEPEST = 12  # slices that are asked at a time


@dataclass(frozen=True)
class Painted:
    """A part of a field with painted pixels.

    Attributes:
        guide: Z Y X.
        noise: standard deviation of the noise in `guide`.
        slices: Y X, index of the painted slice; −1 where nothing was painted.
    """

    guide: NDArray[np.float32]
    noise: float
    slices: NDArray[np.integer[Any]]


def load_painted(paths: Sequence[str], sources: Sources) -> tuple[Painted, ...]:
    """Read corrected results and the stacks that they were made of.

    Raises:
        UserInputError: a result was not corrected, or its stack is not among the inputs.
        StoredDataError: a result is damaged.
    """
    return tuple(part for path in paths for part in _parts(Path(path), sources))


def painted_term(
    network: HybridFusionNet, painted: Sequence[Painted], recipe: Recipe, step: int, device: torch.device
) -> Tensor:
    """Cross-entropy between the focus posterior and the painted slices, around one painted pixel that a step draws."""
    generator = np.random.default_rng([recipe.seed, 4, step])
    part = painted[int(generator.integers(len(painted)))]
    places = np.argwhere(part.slices >= 0)
    y, x = places[int(generator.integers(len(places)))]
    z, height, width = part.guide.shape
    depth = min(z, _DEEPEST)
    first = int(np.clip(part.slices[y, x] - generator.integers(depth), 0, z - depth))
    rows, columns = (_around(int(at), length, recipe.size) for at, length in ((y, height), (x, width)))
    guide = part.guide[first : first + depth][:, rows[:, None], columns]
    wanted = part.slices[rows[:, None], columns] - first
    asked = (wanted >= 0) & (wanted < depth)
    noise = torch.tensor([part.noise], dtype=torch.float32, device=device)
    scores = network(torch.from_numpy(np.ascontiguousarray(guide))[None].to(device), noise)
    heights, weights = (
        torch.from_numpy(each.astype(np.float32))[None].to(device) for each in (np.where(asked, wanted, 0), asked)
    )
    return focus_cross_entropy(scores.focus, heights, weights)


def _around(at: int, length: int, size: int) -> NDArray[np.intp]:
    first = int(np.clip(at - size // 2, 0, max(length - size, 0)))
    return reflected(first, first + size, length)


def _parts(path: Path, sources: Sources) -> list[Painted]:
    family = result_paths(path)
    maps = family.get("maps")
    if maps is None or not maps.exists():
        raise _uncorrected(path)
    decisions = path / "labels" / "decision" if path.is_dir() else family["decision"]
    with open_stack(maps) as explained, open_stack(decisions) as decided:
        names = [quantity_of(channel.name) for channel in explained.channels]
        if _MAP not in names:
            raise _uncorrected(path)
        reader = _source_of(path, decided.shape[3:], sources)
        whole = slice(0, decided.shape[3]), slice(0, decided.shape[4])
        number = decided.read(0, 0, [0], *whole)[0].astype(np.int64)
        touched = explained.read(0, names.index(_MAP), [0], *whole)[0] == 1
    slices = np.where(touched & (number > 0), number - 1, -1)
    if not (slices >= 0).any():
        raise _uncorrected(path)
    return _cut(reader, slices, path)


def _cut(reader: FieldReader, slices: NDArray[np.integer[Any]], path: Path) -> list[Painted]:
    depth = reader.source.shape[2]
    if slices.max() >= depth:
        raise UserInputError(
            f"{path.name} has slice {int(slices.max()) + 1} painted, its stack {reader.source.name} has {depth}; "
            "expected slices of that stack. Name the stack that the result was made of among the inputs."
        )
    parts: list[Painted] = []
    for top in range(0, slices.shape[0], SIDE):
        for left in range(0, slices.shape[1], SIDE):
            here = slices[top : top + SIDE, left : left + SIDE]
            if (here >= 0).any() and len(parts) < _MOST:
                counts, statistics = reader.region(slice(top, top + here.shape[0]), slice(left, left + here.shape[1]))
                parts.append(Painted(statistics.guide([counts]), statistics.noise, here))
    return parts


def _source_of(path: Path, plane: tuple[int, int], sources: Sources) -> FieldReader:
    """Find the stack that a result says it was made of, by name and size."""
    try:
        name = str(stored_provenance(path)["input"][0]["name"])
    except (LookupError, TypeError):
        raise _uncorrected(path) from None
    fits = [each for each in sources.stacks if name in each.files and each.shape[3:] == plane]
    if len(fits) != 1:
        raise UserInputError(
            f"{path.name} was made of a stack {printable(name)!r} of {plane[0]} × {plane[1]} px, and {len(fits)} of "
            "the inputs are called so; expected exactly one. Name that stack among the inputs, or leave it out."
        )
    return field_readers(fits[0])[0]


def _uncorrected(path: Path) -> UserInputError:
    return UserInputError(
        f"{path.name} was not corrected by hand, as far as it says; expected a result with a map {_MAP!r} in which a "
        "slice was painted. Correct its decision in napari and save it, or leave it out of --corrections."
    )
