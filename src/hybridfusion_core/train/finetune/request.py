"""What a fine-tuning is asked for: one frozen request, checked once; command line and widget build the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.request import refusal_of
from hybridfusion_core.model.model_folder import SUFFIX

Preset = Literal["auto", "organoid", "natural", "transmitted"]

LEAST_NA, LARGEST_NA = 0.02, 1.5  # of lenses in oil of 1.518


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class FinetuneRequest:
    """Every choice about a fine-tuning; the defaults are what most people want.

    Attributes:
        inputs: stacks, folders of stacks and plates.
        output: the model to write, a .safetensors file; the folder NAME.finetune beside it takes all else.
        start: "auto" (the shipped model for the preset), a model's name, or its path.
        preset: what the stacks are: "organoid" (fluorescence), "natural" (photographs), "transmitted" (brightfield
            and phase contrast), or "auto": transmitted light if the files say so, else fluorescence.
        minutes: of the whole, on this machine; the number of steps follows from its speed.
        steps: of the training, in place of `minutes`.
        na: numerical aperture of the objective; None draws it among those that go with the pixel size.
        wavelength_nm: of the light; None draws it.
        pixel_size_um: replaces what the files say.
        z_step_um: likewise.
        phase_contrast: transmitted light was taken through a phase ring; None leaves it open.
        axes: what the axes of the stacks are, where they do not say; not of plates.
        pattern: what the files of a folder are called, as for a batch.
        corrections: results whose decisions were corrected by hand; the stack of each is among the inputs.
        height_standard: stack of a flat or bead standard.
        repeats: pairs of stacks of the same field, taken one after the other.
        seed: of everything random.
        device: as for a fusion.
        threads: of PyTorch on the CPU; None leaves PyTorch's own choice.
        overwrite: replace an existing model, and forget another fine-tuning of its name.
    """

    inputs: tuple[str, ...]
    output: str
    start: str = "auto"
    preset: Preset = "auto"
    minutes: float = 30.0
    steps: int | None = None
    na: float | None = None
    wavelength_nm: float | None = None
    pixel_size_um: float | None = None
    z_step_um: float | None = None
    phase_contrast: bool | None = None
    axes: str | None = None
    pattern: str | None = None
    corrections: tuple[str, ...] = ()
    height_standard: str | None = None
    repeats: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if Path(self.output).suffix != SUFFIX:
            raise UserInputError(
                f"The output {Path(self.output).name!r} has another suffix; expected a model, a name that ends in "
                f"{SUFFIX}."
            )
        for name, low, high, unit in _RANGES:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and low <= value <= high):
                raise UserInputError(
                    f"--{name.removesuffix('_um').removesuffix('_nm').replace('_', '-')} is {value}; expected "
                    f"{low:g} to {high:g}{unit}. Correct it, or leave it out."
                )

    @property
    def folder(self) -> Path:
        """Where everything but the model goes."""
        return Path(self.output).with_suffix(".finetune")


_RANGES = (
    ("minutes", 0.01, 100_000, " minutes"),
    ("steps", 2, 10_000_000, " steps"),
    ("na", LEAST_NA, LARGEST_NA, ""),
    ("wavelength_nm", 200, 2_000, " nm"),
    ("pixel_size_um", 1e-3, 1e3, " µm"),
    ("z_step_um", 1e-3, 1e4, " µm"),
    ("threads", 1, 10_000, " threads"),
)


def make_finetune_request(**options: object) -> FinetuneRequest:
    """Build a request from keyword options.

    Raises:
        UserInputError: an option is unknown or impossible.
    """
    try:
        return TypeAdapter(FinetuneRequest).validate_python(options)
    except ValidationError as error:
        raise refusal_of(error) from error
