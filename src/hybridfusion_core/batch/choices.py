"""What a batch is asked for, and which of it must not change when the batch is resumed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hybridfusion_core.batch.output.file_names import NameTemplate
from hybridfusion_core.batch.output.format import PLATE, SUFFIXES, OutputFormat
from hybridfusion_core.batch.records.paths import BatchPaths
from hybridfusion_core.batch.stitch.mosaic import Stitch
from hybridfusion_core.fusion.provenance import ALGORITHM_VERSION
from hybridfusion_core.fusion.request import FuseRequest, as_json
from hybridfusion_core.io.zarr.chunk_files import Absent
from hybridfusion_core.plates.field_stack import find_channels
from hybridfusion_core.plates.plate import Plate, PlateField

Stats = Literal["plate", "well", "field"]


@dataclass(frozen=True)
class Choices:
    """What a batch is asked for; what changes its fields must not change when it is resumed.

    Attributes:
        output: the plate to write, ending in ".zarr", or the folder of files.
        request: how each field is fused.
        stats: whose statistics fields are normalised with: those of the whole plate, of their well, or their own.
        times: indices of the time points to fuse, in order; None takes all.
        z_step_um: replaces the distance between slices.
        pixel_size_um: replaces the distance between pixels.
        output_format: of the results.
        absent: what to do about slices of which an OME-Zarr has no chunk.
        shard: which of several jobs this one is that share the output, such as "2of8"; "" for the only one.
        stitch: whether an image of each whole well is made too, and what places its fields: the "stage", or their
            overlaps, which "register" them. It may change: it changes no field.
    """

    output: Path
    request: FuseRequest
    stats: Stats = "plate"
    times: tuple[int, ...] | None = None
    z_step_um: float | None = None
    pixel_size_um: float | None = None
    output_format: OutputFormat = PLATE
    absent: Absent = "refuse"
    shard: str = ""
    stitch: Stitch = "none"

    @property
    def paths(self) -> BatchPaths:
        """Where everything stands.

        Raises:
            UserInputError: the output has the name of something else.
        """
        return BatchPaths(self.output, files=self.output_format.format != "ome-zarr", shard=self.shard)

    def check_names(self, plate: Plate) -> None:
        """See that all files would have names, and each its own.

        Raises:
            UserInputError: they have not.
        """
        if self.output_format.name:
            template = NameTemplate(self.output_format.name, SUFFIXES[self.output_format.format])
            template.check(filter(self.takes, plate.fields()), self.request.channels)

    def takes(self, unit: PlateField) -> bool:
        """Say whether a unit is at one of the time points that are fused."""
        return self.times is None or unit.t in self.times

    def as_json(self, plate: Plate) -> dict[str, Any]:
        """Return what must stay the same, as plain JSON values: equal for choices that mean the same of this plate.

        Raises:
            UserInputError: the plate has no such channel.
        """
        return {
            **as_json(self.request),
            "channels": self._channels(plate),
            "stats": self.stats,
            "times": None if all(map(self.takes, plate.fields())) else list(self.times or ()),
            "z_step_um": self.z_step_um,
            "pixel_size_um": self.pixel_size_um,
            "absent": self.absent,
            **asdict(self.output_format),
            "plate": plate.name,
            "layout": plate.layout,
            "algorithm_version": ALGORITHM_VERSION,
        }

    def _channels(self, plate: Plate) -> list[str] | None:
        """Return the chosen channels by their names, or by index where two have one name; None for all of them."""
        known = [channel.name for channel in plate.imaging.channels]
        unit = next(plate.fields(), None)
        if self.request.channels is None or not known or unit is None:
            return None if self.request.channels is None else list(self.request.channels)
        chosen = find_channels(unit, self.request.channels)
        if sorted(chosen) == list(range(len(known))) and list(chosen) == sorted(chosen):
            return None
        return [known[index] if known.count(known[index]) == 1 else str(index) for index in chosen]
