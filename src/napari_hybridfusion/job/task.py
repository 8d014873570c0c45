"""What the user chose, checked before anything runs; whatever is wrong is said of the field that is wrong.

The request is the same that the command line builds, resolved by the same function.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.fusion.doubtful_light import looks_transmitted
from hybridfusion_core.fusion.job import Job, auto_model, find_channel, find_slices, resolve
from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.fusion.products import PRODUCTS
from hybridfusion_core.fusion.request import FuseRequest, make_request
from hybridfusion_core.fusion.result import describe
from hybridfusion_core.io.create import create_output, refuse_input_as_output
from hybridfusion_core.model.devices import resolve_device
from hybridfusion_core.stack import Stack
from napari_hybridfusion.layers.sources import Source, check_axes, source_of

if TYPE_CHECKING:
    from napari.layers import Image

_STORE = ".ome.zarr"
_OF_SURFACES = ("smooth", "prefer", "surfaces")


class FieldError(UserInputError):
    """A choice that cannot be.

    Attributes:
        field: of `Choices`.
    """

    def __init__(self, field: str, message: str) -> None:
        first, *details = message.split("\n  ")  # of an error that has its lines already
        super().__init__(first, details)
        self.field = field


@dataclass(frozen=True)
class Choices:
    """What the form says; the defaults are what most people want.

    Attributes:
        layer: the stack, or the first image of a pair.
        others: further channels, or further slices.
        axes: letters of the layers' axes; None takes what the layer says.
        z_step_um: distance between slices where the layer does not know it.
        products: besides the fused image.
        path: of an OME-Zarr to fuse into; None keeps the result in memory.
        overwrite: replace what stands there.
        options: further fields of `FuseRequest`.
    """

    layer: Image | None = None
    others: Sequence[Image] = ()
    axes: str | None = None
    z_step_um: float | None = None
    products: tuple[str, ...] = ("decision", "height", "confidence")
    path: Path | None = None
    overwrite: bool = False
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Task:
    """A job that can run, and what it is about."""

    job: Job
    source: Source
    path: Path | None
    overwrite: bool


def prepare(choices: Choices) -> Task:
    """Check everything that can be checked before the first pixel is read.

    Raises:
        FieldError: something cannot be done, and which field says so.
    """
    source = prepare_source(choices)
    job = prepare_job(choices, source)
    if choices.path is None:
        _refuse_too_large(job, source)
    else:
        with blame("path"):
            _check_path(choices.path, job, source, overwrite=choices.overwrite)
    return Task(job, source, choices.path, choices.overwrite)


def prepare_source(choices: Choices) -> Source:
    """Return what is to be fused.

    Raises:
        FieldError: as for `prepare`.
    """
    if choices.layer is None:
        raise FieldError(
            "layer",
            "There is no image layer to fuse. Open a focal stack, or a sample of HybridFusion.",
        )
    with blame("axes"):
        axes = check_axes(choices.layer, choices.axes)
    lone = not choices.others
    asked = choices.layer.ndim > 3 or (
        choices.layer.ndim == 3 and "Z" not in axes
    )  # of a plane there is nothing to ask
    with blame("axes" if lone and asked else "layer" if lone else "others"):
        return source_of([choices.layer, *choices.others], axes, choices.z_step_um)


def auto_models(stack: Stack) -> tuple[str, ...]:
    """Return what model "auto" stands for with a stack: one name, or one for each kind of light."""
    if stack.rgb:
        return (auto_model(stack.channels, rgb=True, slices=stack.shape[2]),)
    names = [auto_model([each], rgb=False, slices=stack.shape[2]) for each in stack.channels]
    return tuple(dict.fromkeys(names))


def asks_for_light(stack: Stack) -> bool:
    """Say whether the one grey channel of a stack looks like transmitted light and does not say which light it is."""
    return stack.shape[1] == 1 and looks_transmitted(stack)


def prepare_job(choices: Choices, source: Source) -> Job:
    """Resolve what was chosen for a source.

    Raises:
        FieldError: an option is unfit for it.
    """
    options = dict(choices.options)
    projecting = not METHODS[options.get("method", "network")].decides
    # Where no height in µm can be, it is in slices, as `hybridfusion_core.fuse` gives it; `resolve` would refuse it.
    wanted = [name for name in PRODUCTS if name == "fused" or (name in choices.products and not projecting)]
    known = [name for name in wanted if name != "height" or source.stack.z_um is not None]
    request = replace(checked_request(options), products=tuple(known))
    with blame("z"):
        find_slices(request.z, source.stack.shape[2])
    if (channel := options.get("focus_from", "auto")) not in ("auto", "each", "joint"):
        with blame("focus_from"):
            find_channel(channel, source.stack)
    # What is left to fail is the plan: the slices of one tile do not fit.
    with blame("tile" if options.get("tile") else "memory"):
        return replace(resolve(request, source.stack), products=tuple(wanted))


def checked_request(options: Mapping[str, Any]) -> FuseRequest:
    """Build the request that a form stands for.

    Args:
        options: fields of `FuseRequest`; the camera may be as it was typed.

    Raises:
        FieldError: a value that no stack can be fused with.
    """
    known = dict(options)
    with blame("device"):
        resolve_device(known.get("device", "auto"))
    if isinstance(known.get("camera"), str):  # scripts give it as Python does
        with blame("camera"):
            known["camera"] = _camera(known["camera"])
    for name, value in known.items():
        with blame(name):
            # How to find a surface says nothing without one.
            make_request(**({"surface_from": "posterior"} if name in _OF_SURFACES else {}), **{name: value})
    with blame("align_from" if known.get("align_from") else "surface_from"):  # what does not go together
        return make_request(**known)


def _camera(text: str) -> dict[str, float]:
    try:
        gain, offset, read_noise = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserInputError(
            f"The camera is {text!r}; expected three numbers, GAIN,OFFSET,READNOISE, such as 0.46,100,1.6."
        ) from error
    return {"gain": gain, "offset": offset, "read_noise": read_noise}


def _check_path(path: Path, job: Job, source: Source, *, overwrite: bool) -> None:
    if not path.name.lower().endswith(_STORE) or path.name.lower() == _STORE:
        raise UserInputError(f"The name {path.name!r} is no OME-Zarr; expected one that ends in {_STORE}.")
    refuse_input_as_output(path, source.stack.source)
    if path.exists() and not overwrite:
        raise UserInputError(
            f"{path.name} exists already; expected a new name. Choose another one, or tick Replace what is there."
        )
    spec = describe(job, _nameless(source.stack), [])
    with create_output(path, spec, block=job.plan.block, overwrite=overwrite):
        pass  # nothing is left of it; a folder that is missing, full or forbidden is refused


def _refuse_too_large(job: Job, source: Source) -> None:
    shapes = describe(job, _nameless(source.stack), []).array_shapes().values()
    needed, free = sum(math.prod(shape) * dtype.itemsize for shape, dtype in shapes), psutil.virtual_memory().available
    if needed > free / 2:
        raise FieldError(
            "output",
            f"The result takes {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free; expected at "
            "most half of it. Fuse it into an OME-Zarr on disk.",
        )


def _nameless(stack: Stack) -> Stack:
    """Leave out where a stack came from: to look through an input of many files takes a while."""
    return replace(stack, source=())


@contextmanager
def blame(field: str) -> Iterator[None]:
    """Let an error be of a field; options of the command line have no dashes here."""
    try:
        yield
    except FieldError:
        raise
    except HybridFusionError as error:
        raise FieldError(field, in_this_window(str(error))) from error


# Options of the command line whose fields have other names here.
_LABELS: dict[str, str] = {
    "z": "slices",
    "pixel-size": "pixel (µm)",
    "z-step": "Z step (µm)",
    "pattern": "file names, in Advanced options",
    "name": "names",
    "stats": "measure over",
    "workers": "processes",
    "preset": "light",
    "start": "start from",
    "height-standard": "standard",
    "repeat": "repeats",
    "dry-run": "Look again",
}

# What messages of the core say of the command line and of Python, and how this window calls it.
_WORDS = (
    (r"\s*\((?:Python: )?[a-z_]+=[^)]*\)", ""),
    (r"--nan ignore\b", "NaN pixels: ignore, in Advanced options"),
    (r"--overwrite\b", "tick Replace what is there"),
    (r"--([a-z]+(?:-[a-z]+)*)", lambda found: _LABELS.get(found[1], found[1].replace("-", " "))),
)


def in_this_window(message: str) -> str:
    """Return a message of the core with the names that the fields of this window have."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message
