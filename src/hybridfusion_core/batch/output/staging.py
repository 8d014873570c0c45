"""A unit's result on its way: built and verified by itself, then moved to its place.

An image of an OME-Zarr plate has shards, or chunks, of one time point each, so that the pixels of a unit are whole
folders, `LEVEL/c/T` (0.4: `LEVEL/T`), which are renamed into the image of the field: no file ever has two writers.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hybridfusion_core.batch.output.channel_files import ChannelFiles
from hybridfusion_core.batch.output.file_names import NameTemplate
from hybridfusion_core.batch.output.format import SUFFIXES, OutputFormat
from hybridfusion_core.batch.output.zarr_metadata import Array, nodes, time_folder, write_array
from hybridfusion_core.batch.records.paths import BatchPaths, FieldKey, key_of
from hybridfusion_core.errors import StoredDataError
from hybridfusion_core.fusion.job import Job
from hybridfusion_core.io.create import create_output
from hybridfusion_core.io.result_spec import Output, ResultSpec
from hybridfusion_core.io.suffixes import result_paths
from hybridfusion_core.io.zarr.ngff_writing import Ngff
from hybridfusion_core.plates.field_stack import find_channels
from hybridfusion_core.plates.plate import PlateField


class Staged(Protocol):
    """Where the result of a unit is built, and what brings it to its place."""

    def create(self, spec: ResultSpec, job: Job) -> Output:
        """Start to write it; whatever an earlier try left there is replaced."""

    def place(self) -> dict[str, Any]:
        """Move it to its place; returns what the record of the unit says of it, plain JSON values."""


def staged_files(
    unit: PlateField, channels: Sequence[str] | None, output_format: OutputFormat, paths: BatchPaths
) -> StagedFiles:
    """Return where the files of a unit are built.

    Args:
        unit: that is fused.
        channels: names or indices of those that are fused; None means all.
        output_format: of the results.
        paths: of the batch.
    """
    template = NameTemplate(output_format.name, SUFFIXES[output_format.format])
    folder = paths.staged(key_of(unit), unit.t)
    return StagedFiles(folder, paths.output, unit, find_channels(unit, channels), template)


@dataclass(frozen=True)
class StagedFiles:
    """Files of one unit.

    Attributes:
        folder: where they are built.
        output: the folder that they belong to.
        unit: that is fused.
        channels: indices of those that are fused.
        template: of their names.
    """

    folder: Path
    output: Path
    unit: PlateField
    channels: tuple[int, ...]
    template: NameTemplate

    def create(self, spec: ResultSpec, job: Job) -> ChannelFiles:
        """Start to write them."""
        decisions, block = job.decision_count, job.plan.block
        return ChannelFiles(self.folder, self._names(spec), spec, decisions=decisions, block=block)

    def place(self) -> dict[str, Any]:
        """Move them to all others; may be repeated after it was interrupted at any moment.

        Returns:
            "files", the names of the fused ones by channel, and "pixels", paths of all of them relative to where the
            folder of the output stands.
        """
        self.output.mkdir(exist_ok=True)
        names = self.template.names(self.unit, self.channels)
        if len(names) == len(self.channels):  # zeros are no image of a channel that was not acquired
            for channel, name in zip(self.channels, names, strict=True):
                if channel in self.unit.frame.not_acquired:
                    (self.folder / name).unlink(missing_ok=True)
        built = sorted(each for each in self.folder.iterdir() if each.is_file() and not each.name.startswith("."))
        for each in built:
            each.replace(self.output / each.name)
        shutil.rmtree(self.folder, ignore_errors=True)
        known = {each.name for each in built}
        labels = self.template.labels(self.unit, self.channels)
        return {
            "files": {label: name for label, name in zip(labels, names, strict=True) if name in known},
            "pixels": [f"{self.output.name}/{each.name}" for each in built],
        }

    def _names(self, spec: ResultSpec) -> tuple[str, ...]:
        if spec.rgb:
            return self.template.names(self.unit, self.channels[:1])
        # What was opened has the channels that were chosen, and no others.
        if len(self.channels) != len(spec.channels):
            raise StoredDataError(
                f"{spec.name} has {len(spec.channels)} channels, the plate {len(self.channels)}; expected the same, "
                "because files are called by the channels of the plate. Leave the field out, or choose channels with "
                "--channels."
            )
        return self.template.names(self.unit, self.channels)


@dataclass(frozen=True)
class StagedImage:
    """An OME-Zarr image of one time point.

    Attributes:
        path: where it is built.
        paths: of the batch.
        key: of the field.
        index: of the time point in the field's image.
        times: how many the field's image has.
        ngff: version of OME-Zarr.
    """

    path: Path
    paths: BatchPaths
    key: FieldKey
    index: int
    times: int
    ngff: Ngff = "0.5"

    def create(self, spec: ResultSpec, job: Job) -> Output:
        """Start to write it."""
        return create_output(self.path, spec, block=job.plan.block, overwrite=True, ngff=self.ngff)

    def place(self) -> dict[str, Any]:
        """Move its pixels into the plate; may be repeated after it was interrupted at any moment.

        Returns:
            "attributes" of the groups, by store ("fused", "maps") and path, and "pixels", the folders that hold the
            pixels, relative to where the plate stands.
        """
        attributes: dict[str, dict[str, Any]] = {}
        pixels: list[str] = []
        for store, source in result_paths(self.path).items():
            if not source.is_dir():
                continue
            attributes[store] = {}
            target = self.paths.store(store).joinpath(*self.key)
            for node in nodes(source, self.ngff):
                if not isinstance(node, Array):
                    attributes[store][node.path.as_posix()] = node.attributes
                    continue
                write_array(target / node.path, node, self.times)
                chunks = time_folder(target / node.path, self.index, self.ngff)
                replaced(time_folder(source / node.path, 0, self.ngff), chunks)
                pixels.append(chunks.relative_to(self.paths.output.parent).as_posix())
        for source in result_paths(self.path).values():
            shutil.rmtree(source, ignore_errors=True)
        return {"attributes": attributes, "pixels": pixels}


def replaced(source: Path, target: Path) -> None:
    """Move a folder to its place, whatever stands there."""
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
