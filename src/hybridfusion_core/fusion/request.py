"""What can be asked of a fusion, and the defaults: one frozen `FuseRequest` for CLI, Python and napari alike.

What a request means for one stack is `job`'s business. Imports nothing heavy: the command line takes its choices and
defaults from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.methods import method_named
from hybridfusion_core.fusion.products import PRODUCTS

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

    from hybridfusion_core.model.noise import FieldStatistics

Select = Literal["soft", "hard"]
Nan = Literal["refuse", "ignore"]
Align = Literal["none", "shift", "similarity"]
AlignFrame = Literal["keep", "crop"]
Precision = Literal["auto", "float32", "bfloat16"]
SurfaceFrom = Literal["none", "posterior"]
Prefer = Literal["none", "top", "bottom", "brightest"]


@dataclass(frozen=True)
class Camera:
    """Known noise: variance = read_noise² + gain × (counts − offset), in squared counts.

    Attributes:
        gain: counts per photo-electron, > 0.
        offset: counts in the dark.
        read_noise: standard deviation in counts, > 0.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - what `pydantic.with_config` sets, without importing it

    gain: float
    offset: float
    read_noise: float

    def __post_init__(self) -> None:
        if self.gain <= 0 or self.read_noise <= 0:
            raise UserInputError(
                f"Camera gain {self.gain} and read noise {self.read_noise} must both be above 0, in counts. "
                "The camera's data sheet has them; without --camera they are estimated."
            )


def camera_fields(text: str) -> dict[str, float]:
    """Read the fields of a `Camera` from three numbers between commas, as the command line and forms take them.

    Raises:
        UserInputError: the text is anything else.
    """
    try:
        gain, offset, read_noise = (float(part) for part in text.split(","))
    except ValueError:
        raise UserInputError(
            f"The camera is {text!r}; expected three numbers, GAIN,OFFSET,READNOISE, such as 0.46,100,1.6."
        ) from None
    return {"gain": gain, "offset": offset, "read_noise": read_noise}


@dataclass(frozen=True)
class FuseRequest:
    """Every choice about a fusion; the defaults are what most people want.

    Attributes:
        products: any of `PRODUCTS`; None takes those that are made by default.
        select: "soft" averages agreeing slices, "hard" copies every pixel from one slice.
        focus_from: "auto" (one decision from all fluorescence channels, transmitted light for itself), "each"
            channel for itself, all channels "joint", or the name or index of the channel that decides for all.
        channels: names or indices to fuse; None takes all.
        z: START:STOP[:STEP] as in Python; None takes all slices.
        method: any of `METHODS`: the network, or a classical method to compare with.
        model: "auto" chooses for every decider (see `auto_model`); a shipped model's name or a path serves all.
        stats: statistics to normalise with; None takes the field's own.
        camera: noise to stabilise with; None estimates it.
        align: "shift" or "similarity" (shift, scale and angle) takes back how slices drift sideways, where that makes
            them agree better; "none" leaves them.
        align_from: an X.transforms.json that is applied in place of a measurement.
        align_frame: "keep" the frame of the middle slice, or "crop" to what all slices cover.
        flat_field: picture of how evenly the field is lit; "auto" estimates it over a plate.
        dark: picture of what the camera counts in the dark, or "auto" likewise.
        match_light: multiply slices that bleach or flicker so that their pixels got the same light; the decision is
            made as if they had in any case.
        nan: "refuse" NaN and infinite pixels, or "ignore" them.
        device: "auto" or a device that `devices.available` names.
        precision: "auto" and "float32" are the same everywhere; "bfloat16" is faster on some devices.
        exact: run networks by PyTorch in float32, the reference, also where another runtime would be faster and
            equal within rounding.
        tile: core of a tile in pixels, rounded up to the lattice; None plans it.
        memory: bytes that may be used beside the interpreter; None takes a third of what is free.
        threads: of PyTorch on the CPU; None leaves PyTorch's own choice.
        surface_from: "posterior" finds a smooth surface through what is in focus, and fuses along it.
        smooth: how smooth that surface is; 1 is usual, 0 takes each cell of 4 px for itself.
        prefer: which one, where something is in focus at several heights: the "top" one (greatest height), the
            "bottom" one, the "brightest", or with "none" the one that is most in focus.
        surfaces: 2 gives the top and the bottom surface of hollow things, each with its image and maps.
        channel_offset: ("auto",), or NAME:UM for channels that are in focus elsewhere than the one that decides for
            them; None takes all at the same height.
        project: NAME:OFFSET:THICKNESS:HOW (max, mean, sum or median) for channels whose image is read along the
            height instead of fused; "*" names all others.
        slab: N or N:OVERLAP: every N slices become one, a stack again; None fuses all into one.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    products: tuple[str, ...] | None = None
    select: Select = "soft"
    focus_from: str = "auto"
    channels: tuple[str, ...] | None = None
    z: str | None = None
    method: str = "network"
    model: str = "auto"
    stats: FieldStatistics | None = None
    camera: Camera | None = None
    align: Align = "none"
    align_from: str | None = None
    align_frame: AlignFrame = "keep"
    flat_field: str | None = None
    dark: str | None = None
    match_light: bool = False
    nan: Nan = "refuse"
    device: str = "auto"
    precision: Precision = "auto"
    exact: bool = False
    tile: int | None = None
    memory: int | None = None
    threads: int | None = None
    surface_from: SurfaceFrom = "none"
    smooth: float = 1.0
    prefer: Prefer = "none"
    surfaces: Literal[1, 2] = 1
    slab: str | int | None = None
    channel_offset: tuple[str, ...] | None = None
    project: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        method_named(self.method)
        if isinstance(self.slab, int):  # as Python says it; recorded in one way
            object.__setattr__(self, "slab", str(self.slab))
        unknown = [name for name in self.products or () if name not in PRODUCTS]
        if unknown:
            raise UserInputError(
                f"Unknown product {unknown[0]!r}; expected some of {', '.join(PRODUCTS)}. Check --products."
            )
        for name in ("tile", "memory", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserInputError(f"{name} is {value}; expected at least 1. Leave it out to have it planned.")
        self._check_surface()
        if self.align_from is not None and self.align != "none":
            raise UserInputError(
                f"--align {self.align} measures where slices lie, and --align-from {self.align_from} says it; expected "
                "one of them. Leave the other out."
            )
        if self.exact and self.precision == "bfloat16":
            raise UserInputError(
                "--exact means float32, so --precision bfloat16 contradicts it. Leave one of them out."
            )

    def _check_surface(self) -> None:
        if not 0 <= self.smooth <= 1e6:
            raise UserInputError(f"The smoothness is {self.smooth}; expected 0 or more. 1 is usual (--smooth).")
        follows = self.surface_from == "posterior"
        if not follows and (self.surfaces, self.prefer, self.smooth) != (1, "none", 1.0):
            raise UserInputError(
                "--surfaces, --prefer and --smooth say how to find a surface, and none is looked for; expected "
                "--surface-from posterior (Python: surface_from=), too. Add it, or leave them out."
            )
        method = method_named(self.method)
        if (follows or self.slab) and (method.one_slice or not method.decides):
            raise UserInputError(
                f"--method {self.method} takes the slices of the whole field alike; expected a method that decides by "
                "pixel for a surface or for slabs. Choose another --method."
            )
        if follows and self.slab:
            raise UserInputError(
                "--slab and --surface-from give other planes each; expected one of them. Leave one of them out."
            )


def slab_groups(slab: str | int | None, count: int) -> tuple[tuple[int, ...], ...]:
    """Say which slices make each slab, as positions among those that are fused; () for none.

    Args:
        slab: N or N:OVERLAP.
        count: how many slices there are.

    Raises:
        UserInputError: the text is anything else, or asks for what there is not.
    """
    if slab is None:
        return ()
    try:
        size, overlap = (int(part) for part in (*str(slab).split(":"), "0")[:2])
    except ValueError:
        size = overlap = -1
    if not 0 <= overlap < size <= count:
        raise UserInputError(
            f"--slab is {slab!r}; expected N or N:OVERLAP, with N at most the {count} slices that are fused and "
            "OVERLAP less than N, such as 5 or 5:2."
        )
    # The last slab has as many slices as all others: it overlaps more rather than being thin.
    starts = [*range(0, count - size, size - overlap), count - size]
    return tuple(tuple(range(start, start + size)) for start in starts)


def make_request(**options: Any) -> FuseRequest:
    """Build a request from keyword options.

    Raises:
        UserInputError: an option is unknown or impossible.
    """
    from pydantic import ValidationError

    try:
        return _adapter().validate_python(options)
    except ValidationError as error:
        raise refusal_of(error) from error


def refusal_of(error: ValidationError) -> UserInputError:
    """What to say of options that are unknown or impossible: our own words where there are some."""
    first = error.errors()[0]
    if isinstance(own := first.get("ctx", {}).get("error"), UserInputError):
        return own
    name = ".".join(str(part) for part in first["loc"])
    return UserInputError(f"Option {name}: {first['msg']}, found {first['input']!r}.")


def as_json(request: FuseRequest) -> dict[str, Any]:
    """Return a request as plain JSON values."""
    plain: dict[str, Any] = _adapter().dump_python(request, mode="json")
    return plain


@cache  # it takes milliseconds, and forms ask for every field
def _adapter() -> TypeAdapter[FuseRequest]:
    from pydantic import TypeAdapter

    from hybridfusion_core.model.noise import FieldStatistics  # noqa: F401 - the annotation of `stats`

    return TypeAdapter(FuseRequest)
