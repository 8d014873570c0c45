"""Every numeric setting of a run, resolved once on the computer that will do the work, and the record of it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import psutil
import zarr
from pydantic import TypeAdapter

from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.records.store import FORMAT
from hybridfusion_core.batch.task import Settings
from hybridfusion_core.errors import HybridFusionError, StoredDataError, UserInputError
from hybridfusion_core.fusion.doubtful_light import light_warnings
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.plate import PlateField

_STATISTICS = TypeAdapter(dict[str, tuple[FieldStatistics, ...]])


def settle(units: Sequence[PlateField], choices: Choices, memory: int | None) -> dict[str, Any]:
    """Resolve device, tile, block and the rest, where the work will be done.

    Args:
        units: the deepest ones; the first that can be opened is planned for.
        choices: of the user.
        memory: bytes that this worker may use; None takes what is free.

    Returns:
        Plain JSON values.

    Raises:
        UserInputError: the request cannot be met on this computer.
        HybridFusionError: none of the units can be opened.
    """
    free = psutil.virtual_memory().available
    budget = choices.request.memory or min(free, memory or free) // 2
    request = replace(choices.request, memory=budget, threads=choices.request.threads or 1)
    problem: HybridFusionError | None = None
    for unit in units:
        try:
            stack = open_field(unit, channels=request.channels, absent=choices.absent)
        except HybridFusionError as error:
            problem = error
            continue
        with stack:
            job = resolve(replace(request, channels=None), stack.with_z_step(choices.z_step_um))
            doubts = light_warnings(job, replace(stack, name="The plate"))
        return {
            "device": job.device_name,
            "precision": "float32" if request.precision == "auto" else request.precision,
            "threads": request.threads,
            "tile": job.plan.tile,
            "block": job.plan.block,
            "z_chunk": job.plan.z_chunk,
            "memory": budget,
            "models": {model.card.name: model.sha256 for model in job.models},
            "warnings": doubts,
        }
    raise problem or UserInputError(
        "No field of the plate can be fused; expected one at least. Look at the reasons with --dry-run."
    )


def new_record(
    asked: Mapping[str, Any],
    settled: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the record of a run before anything is measured, plain JSON values.

    Args:
        asked: what `Choices.as_json` gave.
        settled: what `settle` gave.
    """
    return {
        "format": FORMAT,
        "request": dict(asked),
        "settings": dict(settled),
        "statistics": None,
        "software": f"napari-hybridfusion {version('napari-hybridfusion')}",
        "runtime": f"Python {platform.python_version()}, NumPy {version('numpy')}, zarr {zarr.__version__}",
    }


def with_statistics(
    record: Mapping[str, Any],
    statistics: Mapping[str, tuple[FieldStatistics, ...]],
    left_out: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the record of a run with what was measured.

    Args:
        record: of the run.
        statistics: by the name of the well, or "" for all of the plate.
        left_out: which units they lack, and why.
    """
    known = {**(record.get("statistics") or {}), **_STATISTICS.dump_python(dict(statistics), mode="json")}
    return {**record, "statistics": known, "left_out": [*(record.get("left_out") or ()), *left_out]}


def settings_of(record: Mapping[str, Any], choices: Choices, session: str) -> Settings:
    """Return what tasks share, from the record of the run that began.

    Raises:
        StoredDataError: the record is damaged.
    """
    try:
        found = record["settings"]
        models = tuple((str(name), str(sha256)) for name, sha256 in sorted(found["models"].items()))
        request = replace(
            choices.request,
            device=str(found["device"]),
            precision=found["precision"],
            threads=int(found["threads"]),
            tile=int(found["tile"]),
        )
        sizes = {"block": int(found["block"]), "z_chunk": int(found["z_chunk"]), "budget": int(found["memory"])}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(choices) from error
    return Settings(replace(choices, request=request), session, models=models, **sizes)


def statistics_of(record: Mapping[str, Any], choices: Choices) -> dict[str, tuple[FieldStatistics, ...]] | None:
    """Return the stored statistics by the name of the well, or "" for all; None if nothing was measured.

    Raises:
        StoredDataError: the record is damaged.
    """
    try:
        stored = record["statistics"]
        return None if stored is None else _STATISTICS.validate_python(stored)
    except (LookupError, ValueError) as error:
        raise _damaged(choices) from error


def _damaged(choices: Choices) -> StoredDataError:
    return StoredDataError(
        f"{choices.paths.run_record} does not say how fields are fused; expected the record of a batch. Move it and "
        "what the batch wrote away to start anew."
    )
