"""Every numeric setting of a run, resolved once on the computer that will do the work, and the record of it."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
import zarr
from pydantic import TypeAdapter

from hybridfusion_core.batch.fuse_field import Settings
from hybridfusion_core.batch.output.file_names import NameTemplate
from hybridfusion_core.batch.output.format import PLATE, SUFFIXES, Form
from hybridfusion_core.batch.records.paths import Places
from hybridfusion_core.batch.records.store import FORMAT, in_session
from hybridfusion_core.errors import HybridFusionError, StoredDataError, UserInputError
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.provenance import ALGORITHM_VERSION
from hybridfusion_core.fusion.request import FuseRequest, as_json
from hybridfusion_core.io.zarr.source import METADATA_FILES, UrlSource, is_url, reached
from hybridfusion_core.model.devices import resolve_device
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.plates.field_stack import open_field
from hybridfusion_core.plates.plate import Plate, PlateField

Stats = Literal["plate", "well", "field"]

_STATISTICS = TypeAdapter(dict[str, tuple[FieldStatistics, ...]])


@dataclass(frozen=True)
class Choices:
    """What a batch is asked for; all of it must be the same when the batch is gone on with.

    Attributes:
        output: the plate to write, ending in ".ome.zarr", or the folder of files.
        request: how each field is fused.
        stats: whose statistics fields are normalised with: those of the whole plate, of their well, or their own.
        times: indices of the time points to fuse, in order; None takes all.
        z_step_um: replaces the distance between slices.
        pixel_size_um: replaces the distance between pixels.
        form: of the results.
    """

    output: Path
    request: FuseRequest
    stats: Stats = "plate"
    times: tuple[int, ...] | None = None
    z_step_um: float | None = None
    pixel_size_um: float | None = None
    form: Form = PLATE

    @property
    def places(self) -> Places:
        """Where everything stands.

        Raises:
            UserInputError: the output is called like something else.
        """
        return self.form.places(self.output)

    def check_names(self, plate: Plate) -> None:
        """See that all files would have names, and each its own.

        Raises:
            UserInputError: they have not.
        """
        if self.form.name:
            template = NameTemplate(self.form.name, SUFFIXES[self.form.format])
            template.check(filter(self.takes, plate.fields()), self.request.channels)

    def takes(self, unit: PlateField) -> bool:
        """Say whether a unit is at one of the time points that are fused."""
        return self.times is None or unit.t in self.times

    def as_json(self, plate: Plate) -> dict[str, Any]:
        """Return what must stay the same, as plain JSON values."""
        return {
            **as_json(self.request),
            "stats": self.stats,
            "times": None if self.times is None else list(self.times),
            "z_step_um": self.z_step_um,
            "pixel_size_um": self.pixel_size_um,
            **asdict(self.form),
            "plate": plate.name,
            "layout": plate.layout,
            "algorithm_version": ALGORITHM_VERSION,
        }


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
            stack = open_field(unit, channels=request.channels)
        except HybridFusionError as error:
            problem = error
            continue
        with stack:
            job = resolve(replace(request, channels=None), stack.with_z_step(choices.z_step_um))
        return {
            "device": job.device_name,
            "precision": "float32" if request.precision == "auto" else request.precision,
            "threads": request.threads,
            "tile": job.plan.tile,
            "block": job.plan.block,
            "z_chunk": job.plan.z_chunk,
            "memory": budget,
            "models": {model.card.name: model.sha256 for model in job.models},
        }
    raise problem or UserInputError(
        "No field of the plate can be fused; expected one at least. Look at the reasons with --dry-run."
    )


def new_record(
    asked: Mapping[str, Any],
    settled: Mapping[str, Any],
    statistics: Mapping[str, tuple[FieldStatistics, ...]] | None,
) -> dict[str, Any]:
    """Return the record of a run, plain JSON values.

    Args:
        asked: what `Choices.as_json` gave.
        settled: what `settle` gave.
        statistics: by the name of the well, or "" for all of the plate; None if each field has its own.
    """
    return {
        "format": FORMAT,
        "request": dict(asked),
        "settings": dict(settled),
        "statistics": None if statistics is None else _STATISTICS.dump_python(dict(statistics), mode="json"),
        "software": f"napari-hybridfusion {version('napari-hybridfusion')}",
        "runtime": f"Python {platform.python_version()}, torch {torch.__version__}, zarr {zarr.__version__}",
    }


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
    return Settings(
        output=str(choices.output),
        session=session,
        request=request,
        models=models,
        z_step_um=choices.z_step_um,
        pixel_size_um=choices.pixel_size_um,
        form=choices.form,
        **sizes,
    )


def statistics_of(record: Mapping[str, Any], choices: Choices) -> dict[str, tuple[FieldStatistics, ...]] | None:
    """Return the stored statistics by the name of the well, or "" for all; None if each field has its own.

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
        f"{choices.places.run_record} does not say how fields are fused; expected the record of a batch. Move it and "
        "what the batch wrote away to start anew."
    )


def unfit(settings: Settings, inputs: str, algorithm: int) -> str | None:
    """Say why this worker cannot take part, or nothing.

    Args:
        settings: of the run; without models when nothing is resolved yet.
        inputs: folder or URL of the plate.
        algorithm: version of whoever asks.
    """
    return next(_hindrances(settings, inputs, algorithm), None)


def _hindrances(settings: Settings, inputs: str, algorithm: int) -> Iterator[str]:
    places = settings.places
    if algorithm != ALGORITHM_VERSION:
        yield f"it has version {ALGORITHM_VERSION} of the algorithm, not {algorithm}"
    if not _sees(inputs):
        yield f"it does not see the plate {inputs}"
    if not in_session(places, settings.session):
        yield f"it does not see what was just written to {places.folder}"
    try:
        resolve_device(settings.request.device)
        if settings.models:  # classical methods need none, and importing takes seconds
            from hybridfusion_core.model.model_file import load_model  # noqa: PLC0415
        for name, sha256 in settings.models:
            asked = name if settings.request.model == "auto" else settings.request.model
            if load_model(asked).sha256 != sha256:
                yield f"its model {name} is another one than when this plate was begun"
    except HybridFusionError as error:
        yield str(error)


def _sees(inputs: str) -> bool:
    if not is_url(inputs):
        return Path(inputs).exists()
    try:
        with reached(inputs):
            source = UrlSource(inputs)
            return any(source.read(name) is not None for name in METADATA_FILES)
    except HybridFusionError:
        return False
