"""What travels to a worker and back: one field at one time point, the settings of the run, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hybridfusion_core.batch.choices import Choices
from hybridfusion_core.batch.records.paths import BatchPaths
from hybridfusion_core.batch.stitch.mosaic import Mosaic
from hybridfusion_core.fusion.provenance import ALGORITHM_VERSION
from hybridfusion_core.fusion.request import FuseRequest
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.plates.plate import PlateField

Status = Literal["done", "failed", "stopped", "full", "refused"]


@dataclass(frozen=True)
class Settings:
    """What all tasks of a run share; small, because it travels with each of them.

    Attributes:
        choices: of the user; device, precision, threads and tile of the request are resolved.
        session: name of the run that may write.
        block: side of blocks, pixels.
        z_chunk: slices that pass the network at a time, at most.
        budget: bytes that the plan was made for; what it leaves holds planes that are decoded as a whole.
        models: sha256 of the models by their name.
        algorithm: version of the program that runs the batch.
    """

    choices: Choices
    session: str
    block: int = 1
    z_chunk: int = 1
    budget: int = 1 << 30
    models: tuple[tuple[str, str], ...] = ()
    algorithm: int = ALGORITHM_VERSION

    @property
    def request(self) -> FuseRequest:
        """How each field is fused."""
        return self.choices.request

    @property
    def paths(self) -> BatchPaths:
        """Where everything stands."""
        return self.choices.paths


@dataclass(frozen=True)
class Task:
    """One unit and its place in the image of its field.

    Attributes:
        unit: what to fuse.
        index: of its time point among those that are fused.
        times: how many of the field are fused.
        statistics: of the plate or well, one for each decider; None measures the unit by itself.
        mosaic: to make of the fused fields of its well, in place of fusing it.
    """

    unit: PlateField
    index: int = 0
    times: int = 1
    statistics: tuple[FieldStatistics, ...] | None = None
    mosaic: Mosaic | None = None


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        status: "done"; "failed", with the reason written down; "stopped" because it was asked to; "full", the
            disk, so that no other task can end better; or "refused", because its worker cannot take part.
        reason: of a failure, or why the worker cannot.
        seconds: that it took.
        flags: of the fused field.
        worker: that refused.
        value: what the task found out, when it was not there to fuse.
    """

    status: Status
    reason: str = ""
    seconds: float = 0.0
    flags: tuple[str, ...] = ()
    worker: str = ""
    value: Any = None
