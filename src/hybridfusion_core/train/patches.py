"""Patches of real stacks without truth, for the unsupervised losses of a training.

Each channel at each time point is a field of its own: its statistics are those of the whole field, and no patch mixes
fields. The stacks that a recipe names are all held in memory, as guides (`load_unlabelled`); of more than that a few
are held at a time (`field_stream`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.tiles import reflected
from hybridfusion_core.io.open import open_stack
from hybridfusion_core.model.focus_measures import has_structure
from hybridfusion_core.model.noise import CELL, field_statistics, luminance
from hybridfusion_core.stack import Stack
from hybridfusion_core.train.recipe import Recipe

_SHARE = 0.25  # slices of a step's patches per slice of its scenes
CONTENT = 0.1  # least share of a patch's pixels with structure
_TRIES = 8  # for a patch with content; then the fullest of them is taken
_LARGEST = 2**31  # bytes of all guides together


@dataclass(frozen=True)
class Field:
    """One channel at one time point.

    Attributes:
        guide: Z Y X, normalised with the statistics of the whole field.
        noise: standard deviation of the noise in `guide`.
    """

    guide: NDArray[np.float32]
    noise: float


@dataclass(frozen=True)
class UnlabelledStack:
    """The fields of one stack, all of the same size."""

    name: str
    fields: tuple[Field, ...]

    @property
    def slices(self) -> int:
        """Z."""
        return len(self.fields[0].guide)


@dataclass(frozen=True)
class Patches:
    """Patches of equal depth; B first everywhere."""

    guide: Tensor  # B Z H W
    noise: Tensor  # B


def load_unlabelled(recipe: Recipe, folder: Path | None) -> tuple[UnlabelledStack, ...]:
    """Read the stacks that a recipe may be trained on; channels of transmitted light are left out.

    Args:
        recipe: names them.
        folder: holds them, perhaps among others.

    Returns:
        One per name; none if the unsupervised losses have no weight.

    Raises:
        UserInputError: a stack is missing or has nothing to learn from, or they are too large together.
    """
    names = recipe.unlabelled.stacks if recipe.unlabelled.weight else ()
    _check_folder(recipe, names, folder)
    held, size = [], 0
    for name in names:
        with open_stack(Path(folder or "") / name) as stack:
            groups = field_groups(stack)
            _check_stack(name, stack, groups)
            t, _, z, y, x = stack.shape
            size += len(groups) * t * z * y * x * np.dtype(np.float32).itemsize
            _check_size(name, size)
            held.append(UnlabelledStack(name, tuple(_fields(name, stack, groups))))
    return tuple(held)


def draw_patches(
    stacks: Sequence[UnlabelledStack], recipe: Recipe, step: int, device: torch.device, jitter: float = 0.0
) -> Patches:
    """Draw the patches of one step; the same step always draws the same.

    Every patch comes from a stack drawn evenly, so that large stacks do not outweigh small ones. All patches of a step
    are as deep as the shallowest of their stacks allows.

    Args:
        stacks: at least one.
        recipe: gives seed, size and depths.
        step: of the training.
        device: where the batch goes.
        jitter: natural logarithm of the largest factor on contrast, and on the estimated noise beside it, as if the
            field's statistics had come out differently.
    """
    generator = np.random.default_rng([recipe.seed % 2**64, step])
    depth = int(generator.integers(*recipe.depth, endpoint=True))
    count = max(1, round(_SHARE * recipe.slices / depth))
    drawn = [stacks[index] for index in generator.integers(len(stacks), size=count)]
    depth = max(2, min(depth, *(each.slices for each in drawn)))
    fields = [each.fields[generator.integers(len(each.fields))] for each in drawn]
    patches = np.stack([_patch(field, recipe.size, depth, generator) for field in fields])
    noise = torch.tensor([field.noise for field in fields], dtype=torch.float32, device=device)
    guide = torch.from_numpy(patches).to(device)
    if jitter:
        contrast, estimate = np.exp(jitter * generator.uniform(-1, 1, (2, count))).astype(np.float32)
        guide = guide * torch.from_numpy(contrast).to(device)[:, None, None, None]
        noise = noise * torch.from_numpy(contrast * estimate).to(device)
    return Patches(guide, noise)


def _patch(field: Field, size: int, depth: int, generator: Generator) -> NDArray[np.float32]:
    """Cut where there is something to see, if that can be found. Z Y X."""
    tried = []
    for _ in range(_TRIES):
        patch = _cut(field.guide, size, depth, generator)
        structure = has_structure(torch.from_numpy(patch)[None], torch.tensor([field.noise]))
        share = float(structure.float().mean())
        if share >= CONTENT:
            return patch
        tried.append((share, patch))
    return max(tried, key=lambda each: each[0])[1]


def _cut(guide: NDArray[np.float32], size: int, depth: int, generator: Generator) -> NDArray[np.float32]:
    """Slices at one step, from 1 to the widest that fits, because neighbours in a deep stack hardly differ. Z Y X."""
    z, *plane = guide.shape
    step = int(generator.integers(1, max((z - 1) // (depth - 1), 1), endpoint=True))
    first = int(generator.integers(z - (depth - 1) * step))
    corner = [int(generator.integers(max(length - size, 0), endpoint=True)) for length in plane]
    # A plane that is smaller than a patch is reflected, as in prediction.
    rows, columns = (reflected(low, low + size, length) for low, length in zip(corner, plane, strict=True))
    patch = guide[first : first + (depth - 1) * step + 1 : step][:, rows[:, None], columns]
    patch = np.rot90(patch, int(generator.integers(4)), axes=(1, 2))
    return np.ascontiguousarray(patch[:, ::-1] if generator.integers(2) else patch)


def field_groups(stack: Stack) -> list[tuple[int, ...]]:
    """Channels of each field; transmitted light is least contrasted in focus, where every preset looks for contrast."""
    if stack.rgb:
        return [(0, 1, 2)]
    return [(index,) for index, channel in enumerate(stack.channels) if channel.transmitted is not True]


def _fields(name: str, stack: Stack, groups: list[tuple[int, ...]]) -> Iterator[Field]:
    for t in range(stack.shape[0]):
        for group in groups:
            counts = _read(stack, t, group)
            if not np.isfinite(counts).all():
                raise UserInputError(
                    f"{name} has NaN or infinite pixels at t={t}, c={group[0]}; expected numbers everywhere. "
                    "Repair the file, or take it out of [unlabelled] stacks."
                )
            statistics = field_statistics([counts])
            yield Field(statistics.guide([counts]), statistics.noise)


def _read(stack: Stack, t: int, group: tuple[int, ...]) -> NDArray[Any]:
    """Read one field whole, Z Y X; colour images by their luminance."""
    _, _, z, y, x = stack.shape
    planes = [stack.read(t, channel, range(z), slice(0, y), slice(0, x)) for channel in group]
    return planes[0] if len(planes) == 1 else luminance(planes)


def _check_folder(recipe: Recipe, names: Sequence[str], folder: Path | None) -> None:
    if not names:
        if folder is None:
            return
        raise UserInputError(
            f"A folder of unlabelled stacks was given, {folder}, and the recipe {recipe.name!r} gives them no weight; "
            "expected an [unlabelled] section with weight and stacks. Add one, or leave --stacks out."
        )
    if folder is None or not folder.is_dir():
        found = "no folder was given" if folder is None else f"{folder} is no folder"
        raise UserInputError(
            f"The recipe {recipe.name!r} trains on unlabelled stacks and {found}; expected the one that holds "
            f"{', '.join(names)}. Give it with --stacks FOLDER (Python: stacks=)."
        )
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise UserInputError(
            f"{folder} holds no {', '.join(missing)}; expected every stack that the recipe {recipe.name!r} names. "
            "Copy what is missing there, or take it out of [unlabelled] stacks."
        )


def _check_stack(name: str, stack: Stack, groups: list[tuple[int, ...]]) -> None:
    if not groups:
        raise UserInputError(
            f"{name} holds transmitted light alone; expected fluorescence or photographs, because every unsupervised "
            "loss looks for contrast, which transmitted light has least in focus. Take it out of [unlabelled] stacks."
        )
    z, y, x = stack.shape[2:]
    if z < 2 or min(y, x) < CELL:
        raise UserInputError(
            f"{name} has {z} slice(s) of {y} × {x} px; expected two slices or more of at least {CELL} × {CELL} px. "
            "Take it out of [unlabelled] stacks."
        )


def _check_size(name: str, size: int) -> None:
    if size > _LARGEST:
        raise UserInputError(
            f"With {name} the unlabelled stacks take {size / 2**30:.1f} GiB of memory; expected at most "
            f"{_LARGEST / 2**30:.0f} GiB, because all are held at once. Cut regions out of them, or name fewer."
        )
