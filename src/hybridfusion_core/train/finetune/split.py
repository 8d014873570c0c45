"""A look at the pixels before training starts: is there anything to learn from, and what is held out?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.train.finetune.crops import Crop, FieldReader, field_readers
from hybridfusion_core.train.finetune.sources import Source, Sources
from hybridfusion_core.train.patches import CONTENT

_LOOKED_AT = 24  # groups of which one field is looked at
_HELD_OUT = 0.25  # of the groups, one at least
_MOST_HELD_OUT = 12
_TEXTURE = CONTENT / 5  # least share of a field with something in focus that counts as texture


@dataclass(frozen=True)
class Survey:
    """What is trained on and what is not.

    Attributes:
        training: readers of the fields to train on, by group.
        held_out: one crop of each group that is not trained on.
        looked_at: crops of groups that are trained on, for estimates.
        warnings: what the user should know.
    """

    training: dict[str, list[FieldReader]]
    held_out: tuple[Crop, ...]
    looked_at: tuple[Crop, ...]
    warnings: tuple[str, ...]


def survey(sources: Sources, seed: int) -> Survey:
    """Look at some fields, and split the groups.

    Raises:
        UserInputError: all fields are black or empty, or none but one has texture.
    """
    groups: dict[str, list[Source]] = defaultdict(list)
    for source in sources.stacks:
        groups[source.group].append(source)
    generator = np.random.default_rng([seed, 2])
    order = [list(groups)[index] for index in generator.permutation(len(groups))]
    crops, warnings = _crops(groups, order[:_LOOKED_AT], seed)
    useful = [crop for crop in crops.values() if crop.content >= _TEXTURE]
    _check(list(crops.values()), useful, warnings)
    count = min(max(1, round(_HELD_OUT * len(groups))), _MOST_HELD_OUT, len(useful) - 1)
    held_out = useful[:count]
    names = {crop.group for crop in held_out}
    readers = {
        group: [reader for source in members for reader in field_readers(source)]
        for group, members in groups.items()
        if group not in names
    }
    empty = len(crops) - len(useful)
    if empty:
        warnings.append(f"{empty} of {len(crops)} stacks that were looked at show nothing in focus.")
    return Survey(readers, tuple(held_out), tuple(useful[count:]), (*sources.warnings, *warnings))


def _crops(groups: dict[str, list[Source]], chosen: Sequence[str], seed: int) -> tuple[dict[str, Crop], list[str]]:
    """Read a part of one field of each group; what cannot be read is told and left out."""
    crops, warnings = {}, []
    for number, group in enumerate(chosen):
        generator = np.random.default_rng([seed, 3, number])
        readers = [reader for source in groups[group] for reader in field_readers(source)]
        try:
            crops[group] = readers[int(generator.integers(len(readers)))].crop(generator)
        except HybridFusionError as error:
            warnings.append(f"{error} It is left out.")
            del groups[group]
    return crops, warnings


def _check(crops: Sequence[Crop], useful: Sequence[Crop], warnings: Sequence[str]) -> None:
    if not crops:
        raise UserInputError(f"No stack could be read; expected two at least. The first problem: {warnings[0]}")
    if all(crop.counts.max() == crop.counts.min() for crop in crops):
        raise UserInputError(
            f"All {len(crops)} stacks that were looked at have one count in every pixel ({crops[0].name}: "
            f"{crops[0].counts.flat[0]:g}); expected images. They are black or full: export them again."
        )
    if len(useful) < 2:
        raise UserInputError(
            f"{len(useful)} of {len(crops)} stacks that were looked at show texture in focus; expected two at least, "
            "because one is held out. Add stacks with specimens in focus; `hybridfusion fuse --preview` shows what one "
            "holds."
        )
