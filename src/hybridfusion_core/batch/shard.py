"""Jobs that share a plate: each takes its part of the wells, and all write into one output."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.plate import PlateField


def shard_of(units: Sequence[PlateField], text: str) -> tuple[tuple[PlateField, ...], str]:
    """Return the units of one of several jobs, every N-th well, and the name of the job.

    Args:
        units: that were chosen, the same ones in every job.
        text: such as "2/8", the second of eight; jobs are counted from 1.

    Raises:
        UserInputError: the text is no such thing.
    """
    match = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text, re.ASCII)
    number, count = (int(each) for each in match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise UserInputError(
            f"--shard is {text!r}; expected K/N, such as 2/8 for the second of eight jobs. In an array of SLURM with "
            "--array=1-8 it is --shard $SLURM_ARRAY_TASK_ID/8."
        )
    wells = {well: place for place, well in enumerate(dict.fromkeys(unit.well for unit in units))}
    return tuple(unit for unit in units if wells[unit.well] % count == number - 1), f"{number}of{count}"
