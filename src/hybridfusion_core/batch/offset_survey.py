"""Focus offsets between channels, measured once for a whole plate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.fusion.channel_offset import AUTO, ENOUGH, ChannelOffset, combined, measure_offsets
from hybridfusion_core.fusion.job import find_channel
from hybridfusion_core.fusion.request import FuseRequest
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.plate import Plate, PlateField

_FIELDS = 8  # that are looked at, spread over the plate
_OF_A_FIELD = 5  # cells that tell something of one; all fields together need more


def with_offsets(request: FuseRequest, plate: Plate, z_step_um: float | None) -> tuple[FuseRequest, tuple[str, ...]]:
    """Measure offsets that are to be measured, on fields spread over the plate, whichever of them will be fused.

    So that every field, and every job that shares the output, has the same.

    Returns:
        The request with numbers, and one sentence for each channel.

    Raises:
        UserInputError: they cannot be told.
    """
    if request.channel_offset is None or tuple(request.channel_offset) != (AUTO,):
        return request, ()
    units = list(plate.fields())
    chosen = (
        [units[int(at)] for at in sorted(set(np.linspace(0, len(units) - 1, _FIELDS).astype(int)))] if units else []
    )
    names, found = _measured(request, chosen, z_step_um)
    offsets = {index: each for index, each in combined(found).items() if each.cells >= ENOUGH}
    missing = [name for index, name in names.items() if index not in offsets]
    if missing or not offsets:
        raise UserInputError(
            f"No offset of {', '.join(missing) or 'any channel'} could be measured in {len(chosen)} fields; expected "
            "structure in both channels. Give it: --channel-offset NAME:UM."
        )
    said = tuple(
        f"{names[index]} is in focus {each.um:+.2f} µm from {request.focus_from} (spread {each.spread_um:.2f} µm over "
        f"{len(found)} fields), and is read there."
        for index, each in offsets.items()
    )
    return replace(request, channel_offset=tuple(f"{names[index]}:{each.um}" for index, each in offsets.items())), said


def _measured(
    request: FuseRequest, units: Sequence[PlateField], z_step_um: float | None
) -> tuple[dict[int, str], list[dict[int, ChannelOffset]]]:
    """Names of the channels that follow, and their offsets field by field; fields that cannot be read tell nothing."""
    names: dict[int, str] = {}
    found = []
    for unit in units:
        try:
            stack = open_field(unit, channels=request.channels)
        except HybridFusionError:  # told when it is fused
            continue
        with stack.with_z_step(z_step_um) as opened:
            reference = find_channel(request.focus_from, opened)
            names = {index: each.name for index, each in enumerate(opened.channels) if index != reference}
            found.append(measure_offsets(opened, reference, list(names), _OF_A_FIELD))
    return names, found
