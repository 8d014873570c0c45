"""How a result was made: what it records of its input, its settings and its models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hybridfusion_core.fusion.blank_slices import blank_warnings
from hybridfusion_core.fusion.doubtful_light import light_warnings
from hybridfusion_core.fusion.focus_range import FocusRanges, nothing_in_focus
from hybridfusion_core.fusion.job import Job, one_or_all
from hybridfusion_core.fusion.light_of_slices import light_notes
from hybridfusion_core.io.disk.access import permitted
from hybridfusion_core.io.result_spec import ResultSpec
from hybridfusion_core.io.zarr.source import is_url
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.stack import Stack

ALGORITHM_VERSION = 8  # raised whenever equal settings would give other pixels
_STATISTICS = TypeAdapter(FieldStatistics)


def provenance(
    job: Job, stack: Stack, statistics: Sequence[Sequence[FieldStatistics]] = (), *, checksum: bool = False
) -> dict[str, Any]:
    """Return plain JSON values that say how a result is made.

    Args:
        job: what is done.
        stack: what is fused; its input's files are looked at, which takes a while if there are many.
        statistics: what `measure` returned; `with_statistics` adds it later.
        checksum: read the input's files for their sha256.
    """
    return {
        "software": f"napari-hybridfusion {version('napari-hybridfusion')}",
        "algorithm_version": ALGORITHM_VERSION,
        "input": [identify(source, checksum=checksum) for source in stack.source],
        # Of which one plane is left: how thick it is, and where a height in µm lies, is not known otherwise.
        "slices": stack.shape[2],
        "z_positions_um": None if stack.z_positions_um is None else [float(each) for each in stack.z_positions_um],
        "model": one_or_all([{"name": model.card.name, "sha256": model.sha256} for model in job.models]),
        "settings": job.settings(),
        **({} if not stack.treatment else {"treatment": dict(stack.treatment)}),
        **_measured(job, stack, statistics),
        "runtime": str(job.runtime),
    }


def _measured(job: Job, stack: Stack, statistics: Sequence[Sequence[FieldStatistics]]) -> dict[str, Any]:
    return {
        "statistics": [_STATISTICS.dump_python(one, mode="json") for of_frame in statistics for one in of_frame],
        "warnings": [
            *job.notes,
            *(stack.treatment or {}).get("notes", ()),
            *(light_warnings(job, stack) if statistics else ()),
            *light_notes(job, stack, statistics),
            *blank_warnings(job, stack, statistics),
        ],
    }


def identify(source: str, *, checksum: bool) -> dict[str, Any]:
    """Name, size and time of an input; its files' contents in sorted order for the checksum."""
    if is_url(source):
        return {"name": source}
    with permitted(Path(source)):
        return _identity(Path(source), checksum)


def _identity(path: Path, checksum: bool) -> dict[str, Any]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    stats = [file.stat() for file in files]
    identity: dict[str, Any] = {
        "name": path.name,
        "bytes": sum(stat.st_size for stat in stats),
        "modified_ns": max((stat.st_mtime_ns for stat in stats), default=0),
    }
    if checksum:
        digest = hashlib.sha256()
        for file in files:
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        identity["sha256"] = digest.hexdigest()
    return identity


def with_statistics(
    spec: ResultSpec, job: Job, stack: Stack, statistics: Sequence[Sequence[FieldStatistics]]
) -> ResultSpec:
    """Add to a result's description what `measure` returned: what it was normalised with, and what it warns of."""
    return replace(spec, provenance={**spec.provenance, **_measured(job, stack, statistics)})


def with_focus(spec: ResultSpec, ranges: FocusRanges) -> ResultSpec:
    """Add to a result's description in which slices each channel is in focus, if that was decided."""
    found = ranges.found()
    if not found:
        return spec
    warnings = [*spec.provenance["warnings"], *nothing_in_focus(found)]
    return replace(spec, provenance={**spec.provenance, "focus": found, "warnings": warnings})


def statistics_of(spec: ResultSpec, job: Job, t: int) -> list[FieldStatistics]:
    """Return what a finished result was normalised with at one time point: one for each of the job's deciders."""
    stored, count = spec.provenance["statistics"], len(job.deciders)
    return [_STATISTICS.validate_python(one) for one in stored[t * count : (t + 1) * count]]
