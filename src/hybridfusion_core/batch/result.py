"""What a run tells: each event while it goes on, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey
from hybridfusion_core.batch.task import Outcome
from hybridfusion_core.plates.plate import PlateField


@dataclass(frozen=True)
class Event:
    """Something that happened to a unit.

    Attributes:
        stage: "checking", "measuring", "fusing" or "stitching".
        unit: which one.
        outcome: how it ended, or None: a worker has just begun it.
        done: units that ended so far in this stage of this run.
        total: units of this stage of this run.
        failed: how many of them failed.
        wells: how many wells are done, with all that was chosen of them, and how many there are; earlier runs count.
    """

    stage: str
    unit: PlateField
    outcome: Outcome | None
    done: int
    total: int
    failed: int
    wells: tuple[int, int] = (0, 0)


@dataclass
class Result:
    """How a run ended.

    Attributes:
        paths: where everything stands.
        total: units that were chosen.
        fused: of them, in this run.
        kept: of them, in earlier runs.
        failures: units and why each failed.
        unstitched: names of wells of which no image could be made, and why.
        seconds: that the run took.
        interrupted: the user stopped it.
        full: why the output cannot be written any more, such as a full disk.
        missing: time points of fields that are not in the plate, chosen or not.
        refused: why workers took no part, by their addresses.
        flagged: how many of those fused in this run have each of `FLAGS`.
        warnings: what was not kept of the input, what statistics lack, what was damaged.
    """

    paths: BatchPaths
    total: int = 0
    fused: int = 0
    kept: int = 0
    failures: list[tuple[PlateField, str]] = field(default_factory=list)
    unstitched: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    full: str = ""
    missing: Mapping[FieldKey, set[int]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    flagged: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
