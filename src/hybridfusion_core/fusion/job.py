"""A request resolved against one stack: one frozen `Job` says everything that will happen.

Whatever is impossible is refused here, before a pixel is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.channel_offset import AUTO, ChannelOffset, measure_offsets, parse_offsets
from hybridfusion_core.fusion.methods import METHODS, Method
from hybridfusion_core.fusion.plan import Computed, Plan, common_geometry, make_plan
from hybridfusion_core.fusion.products import PRODUCTS, default_products
from hybridfusion_core.fusion.request import FuseRequest, as_json, slab_groups
from hybridfusion_core.fusion.slab import Slab, named_slab
from hybridfusion_core.fusion.tiles import Geometry
from hybridfusion_core.model.devices import NUMPY_ALONE, OPENVINO, Runtime, choose_runtime, resolve_device
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.model.threads import thread_count
from hybridfusion_core.stack import Channel, Stack

if TYPE_CHECKING:
    from hybridfusion_core.model.model_file import Model

T = TypeVar("T")


@dataclass(frozen=True)
class Decider:
    """Who decides for whom, and with which weights; channels are indices of the stack.

    Attributes:
        guide: channels whose guide decides.
        serves: channels that follow the decision.
        model: that scores the guide; None for classical methods.
    """

    guide: tuple[int, ...]
    serves: tuple[int, ...]
    model: Model | None = None


@dataclass(frozen=True)
class Job:
    """A request resolved against one stack; every field says what will happen.

    Attributes:
        request: as it was asked.
        products: what will be made.
        slices: indices of Z, in order.
        channels: indices of C that are fused.
        deciders: who decides for whom.
        device: where arrays live, as PyTorch calls it: "cpu", "mps", "cuda" or "cuda:N".
        geometry: lattice and halo that serve every decider.
        plan: tiles and blocks.
        runtime: what computes.
        notes: what a person should be told of these choices, one sentence each.
        groups: of slabs, the positions in `slices` of those that make each; () if there are no slabs.
        offsets: by channel, where it is in focus, of those that are elsewhere than the channel that decides.
        projections: by channel, where it is read along the height instead of fused.
    """

    request: FuseRequest
    products: tuple[str, ...]
    slices: tuple[int, ...]
    channels: tuple[int, ...]
    deciders: tuple[Decider, ...]
    device: str
    geometry: Geometry
    plan: Plan
    runtime: Runtime = NUMPY_ALONE
    notes: tuple[str, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    offsets: Mapping[int, ChannelOffset] = field(default_factory=dict)
    projections: Mapping[int, Slab] = field(default_factory=dict)

    @property
    def method(self) -> Method:
        """Row of the method in `METHODS`."""
        return METHODS[self.request.method]

    @property
    def depth(self) -> int:
        """Planes along Z of the result."""
        return len(self.groups) or self.request.surfaces

    @property
    def to_float(self) -> bool:
        """Whether the fused image is float32, whatever the stack is: a sum may exceed the stack's own type."""
        return self.method.to_float or any(slab.how == "sum" for slab in self.projections.values())

    @property
    def needs_field(self) -> bool:
        """Whether the whole field has to be looked through before any of it is fused."""
        return self.method.one_slice or self.request.surface_from == "posterior"

    @property
    def decision_count(self) -> int:
        """Length of C of the decision and of each map: 1 when one decision serves all channels."""
        return 1 if len(self.deciders) == 1 else len(self.channels)

    @property
    def device_name(self) -> str:
        """What asks for the same device and runtime again."""
        return OPENVINO if self.runtime.package == OPENVINO else self.device

    @property
    def models(self) -> tuple[Model, ...]:
        """The one model that serves every decider, or else one per decider in their order; () if classical."""
        found = [decider.model for decider in self.deciders if decider.model is not None]
        return tuple(found[:1] if len({model.sha256 for model in found}) == 1 else found)

    def settings(self) -> dict[str, Any]:
        """Every resolved setting as plain JSON values, for provenance."""
        settings: dict[str, Any] = as_json(self.request)
        settings.update(
            products=list(self.products),
            channels=list(self.channels),
            z=list(self.slices),
            model=one_or_all([model.card.name for model in self.models]),
            deciders=[{"guide": list(decider.guide), "serves": list(decider.serves)} for decider in self.deciders],
            device=self.device_name,
            precision="float32" if self.request.precision == "auto" else self.request.precision,
            tile=self.plan.tile,
            block=self.plan.block,
            z_chunk=self.plan.z_chunk,
        )
        if self.offsets:
            settings["channel_offset_um"] = {str(index): asdict(each) for index, each in self.offsets.items()}
        del settings["memory"]  # what it led to is recorded; the number itself changes nothing
        for name in ("align_from", "flat_field", "dark"):  # where a file stood is nobody's business
            settings[name] = settings[name] and Path(settings[name]).name
        settings["stats"] = None  # recorded as used, one per time point and decider
        return settings


def resolve(request: FuseRequest, stack: Stack) -> Job:
    """Check a request against a stack and decide everything that it leaves open.

    Raises:
        UserInputError: what was asked cannot be done with this stack or on this machine.
    """
    slices = find_slices(request.z, stack.shape[2])
    channels = _channels(request.channels, stack)
    groups = slab_groups(request.slab, len(slices))
    products, notes = _products(request, stack, len(slices))
    deciders = _deciders(request, stack, channels)
    projections = _projections(request, stack, channels)
    offsets, said = _offsets(request, stack, deciders)
    notes = (*notes, *said)
    device = resolve_device(request.device)
    if METHODS[request.method].by_network:
        deciders = _with_models(request.model, deciders, stack, len(slices))
    networks = [decider.model.parameters for decider in deciders if decider.model is not None]
    runtime = choose_runtime(request.device, device, networks, request.precision, request.threads, exact=request.exact)
    configs = [network.config for network in networks]
    geometry = common_geometry(configs, METHODS[request.method].reach)
    plan = make_plan(
        stack,
        len(slices),
        max(len({*decider.guide, *decider.serves}) for decider in deciders),
        Computed(configs, geometry, runtime.package, device, thread_count(request.threads)),
        request.tile,
        request.memory,
        _surfaces(request),
    )
    return Job(
        request,
        products,
        slices,
        channels,
        deciders,
        device,
        geometry,
        plan,
        runtime,
        notes,
        groups,
        offsets,
        projections,
    )


def _surfaces(request: FuseRequest) -> int:
    """How many surfaces have to be told apart: one that is preferred is one of two."""
    if request.surface_from == "none":
        return 0
    return 2 if request.surfaces == 2 or request.prefer in ("top", "bottom") else 1


def _projections(request: FuseRequest, stack: Stack, channels: Sequence[int]) -> dict[int, Slab]:
    """Which channels are read along the height, and where."""
    named = dict(named_slab(text) for text in request.project or ())
    if not named:
        return {}
    if not METHODS[request.method].decides or METHODS[request.method].one_slice or request.slab:
        raise UserInputError(
            f"--project reads channels along a height, and --method {request.method} or --slab finds none by pixel; "
            "expected one. Choose another --method, or leave --slab out."
        )
    if any(slab.how == "stack" for slab in named.values()):
        raise UserInputError(
            '--project gives one plane for each channel, and "stack" several; expected max, mean, sum or median. Use '
            "`hybridfusion project` for a thin stack."
        )
    others = named.pop("*", None)
    found = {find_channel(name, stack): slab for name, slab in named.items()}
    return {index: found.get(index, others) for index in channels if index in found or others is not None}  # type: ignore[misc]


def _offsets(
    request: FuseRequest, stack: Stack, deciders: Sequence[Decider]
) -> tuple[dict[int, ChannelOffset], tuple[str, ...]]:
    """Where channels are in focus beside the one that decides, and what to say about it."""
    if not request.channel_offset:
        return {}, ()
    guide = deciders[0].guide
    if len(deciders) != 1 or len(guide) != 1 or stack.z_um is None:
        raise UserInputError(
            "An offset between channels is counted from the one channel that decides for all, in µm; expected "
            "--focus-from NAME and known z positions. Name that channel, and give --z-step if the file does not."
        )
    others = [index for index in deciders[0].serves if index != guide[0]]
    if tuple(request.channel_offset) != (AUTO,):
        given = parse_offsets(request.channel_offset)
        return {find_channel(name, stack): ChannelOffset(um) for name, um in given.items()}, ()
    measured = measure_offsets(stack, guide[0], others)
    unknown = [stack.channels[index].name for index in others if index not in measured]
    if unknown:
        raise UserInputError(
            f"Too little of {', '.join(unknown)} and {stack.channels[guide[0]].name} is in focus in the same places to "
            "measure an offset; expected structure in both. Give it: --channel-offset NAME:UM."
        )
    said = tuple(
        f"{stack.channels[index].name} is in focus {each.um:+.2f} µm from {stack.channels[guide[0]].name} (spread "
        f"{each.spread_um:.2f} µm over {each.cells} places), and is read there."
        for index, each in measured.items()
    )
    return measured, said


def auto_model(guide: Sequence[Channel], *, rgb: bool, slices: int) -> str:
    """Name of the shipped model that fits the channels that decide; what "auto" means.

    Transmitted light comes first because its contrast inverts through focus: weights for anything else would look for
    the sharpest slice beside the object. Colour comes from photographs; so do pairs, unless the file says that they
    fluoresce. In doubt a stack is fluorescence, because most stacks are.

    Args:
        guide: channels that decide together.
        rgb: they are red, green and blue of one colour image.
        slices: how many are fused.
    """
    if all(channel.transmitted for channel in guide):
        return "transmitted"
    if rgb or (slices == 2 and not any(channel.transmitted is False for channel in guide)):
        return "natural"
    return "fluorescence"


def one_or_all(values: list[T]) -> T | list[T] | None:
    """Write down something of `Job.models`: nothing as None, one as itself, several as a list."""
    return (values[0] if len(values) == 1 else values) if values else None


def load_statistics(path: Path) -> FieldStatistics:
    """Read the statistics of another field from what `fuse --json` printed for it.

    Raises:
        UserInputError: no such file, or nothing of the kind inside.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        with suppress(LookupError, TypeError):
            found = found["statistics"][0]
        return TypeAdapter(FieldStatistics).validate_python(found)
    except (OSError, ValueError) as error:
        raise UserInputError(
            f"{str(path)!r} holds no field statistics ({type(error).__name__}). "
            "Expected the JSON that `hybridfusion fuse … --json` prints."
        ) from error


def _with_models(wanted: str, deciders: tuple[Decider, ...], stack: Stack, slices: int) -> tuple[Decider, ...]:
    from hybridfusion_core.model.model_file import load_model  # which classical methods need not import

    def name(decider: Decider) -> str:
        if wanted != "auto":
            return wanted
        return auto_model([stack.channels[index] for index in decider.guide], rgb=stack.rgb, slices=slices)

    return tuple(replace(decider, model=load_model(name(decider))) for decider in deciders)


def find_slices(text: str | None, count: int) -> tuple[int, ...]:
    """Indices of the slices that are chosen.

    Args:
        text: START:STOP or START:STOP:STEP, counted from 0; None takes all.
        count: how many slices there are.

    Raises:
        UserInputError: the text says something else, or leaves none.
    """
    if text is None:
        return tuple(range(count))
    try:
        parts = [int(part) if part else None for part in text.split(":")]
    except ValueError:
        parts = []
    if not 2 <= len(parts) <= 3 or (len(parts) == 3 and (parts[2] is not None and parts[2] < 1)):
        raise UserInputError(f"--z is {text!r}; expected START:STOP or START:STOP:STEP with STEP ≥ 1, such as 2:20.")
    chosen = tuple(range(count)[slice(*parts)])
    if not chosen:
        raise UserInputError(f"--z {text} leaves none of the {count} slices. They are counted from 0.")
    return chosen


def _channels(wanted: tuple[str, ...] | None, stack: Stack) -> tuple[int, ...]:
    if wanted is None:
        return tuple(range(stack.shape[1]))
    if stack.rgb:
        raise UserInputError("A colour image is fused as a whole; leave --channels out.")
    return tuple(dict.fromkeys(find_channel(name, stack) for name in wanted))


def find_channel(wanted: str, stack: Stack) -> int:
    """Index of a channel that is given by name or index.

    Raises:
        UserInputError: no such channel, or several of that name.
    """
    names = [channel.name for channel in stack.channels]
    if names.count(wanted) == 1:
        return names.index(wanted)
    with suppress(ValueError):
        if 0 <= int(wanted) < len(names) and wanted not in names:
            return int(wanted)
    kind = "several channels are" if wanted in names else "no channel is"
    raise UserInputError(
        f"{kind} called {wanted!r} in {stack.name}; it has {', '.join(map(repr, names))}. "
        "Give a name or an index from 0."
    )


def _products(request: FuseRequest, stack: Stack, slices: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What will be made of so many slices, and what to say about it."""
    wanted = request.products
    if not METHODS[request.method].decides:
        if wanted and set(wanted) != {"fused"}:
            raise UserInputError(f"--method {request.method} decides nothing; its only product is fused.")
        return ("fused",), ()
    unknown_z = stack.z_um is None
    if wanted is None:
        note = f"{stack.name} does not say how far its slices are apart: heights are in slices. Give --z-step for µm."
        made = default_products()
        # Of a single slice nothing is fused, and nothing is to be said of heights.
        said = unknown_z and slices > 1 and any(PRODUCTS[name].along_z for name in made)
        return made, (note,) if said else ()
    if unknown_z and any(PRODUCTS[name].along_z for name in wanted):
        raise UserInputError(
            f"{stack.name} does not say how far its slices are apart, so there is no height in µm. "
            "Give --z-step UM (Python: z_step_um=), or leave height out of the products: those made by default have "
            "it in slices."
        )
    return tuple(name for name in PRODUCTS if name in (*wanted, "fused")), ()


def _deciders(request: FuseRequest, stack: Stack, channels: tuple[int, ...]) -> tuple[Decider, ...]:
    each = tuple(Decider((channel,), (channel,)) for channel in channels)
    if stack.rgb or request.focus_from == "joint":
        return (Decider(channels, channels),)
    if request.focus_from == "each" or not METHODS[request.method].decides:
        return each
    if request.focus_from == "auto":
        emitted = tuple(channel for channel in channels if not stack.channels[channel].transmitted)
        alone = tuple(decider for decider in each if stack.channels[decider.guide[0]].transmitted)
        return ((Decider(emitted, emitted),) if emitted else ()) + alone
    return (Decider((find_channel(request.focus_from, stack),), channels),)
