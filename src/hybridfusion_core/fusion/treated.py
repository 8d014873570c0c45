"""A stack as it is fused: in even light and with its slices on each other, as far as the request asks for it.

What was done stands in `Stack.treatment`, from where provenance has it, and from which `treated_again` does it again.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.job import Job
from hybridfusion_core.fusion.light_of_slices import lights_as_json, lights_of, measure_lights
from hybridfusion_core.fusion.request import FuseRequest
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.io.suffixes import output_suffix
from hybridfusion_core.model.noise import luminance
from hybridfusion_core.progress import Progress
from hybridfusion_core.registration.measure import Guide, measure_placement
from hybridfusion_core.registration.notice import visible_drift
from hybridfusion_core.registration.placement import Placement, check_fit, placement_of, read_placement
from hybridfusion_core.registration.resampled import aligned
from hybridfusion_core.shading.lit import evenly_lit
from hybridfusion_core.shading.matched import matched
from hybridfusion_core.shading.profiles import Profiles, read_profiles
from hybridfusion_core.stack import Stack

_QUICK = 1024  # px, side of a plane whose drift classical methods look for: in smaller ones the look would count


def is_treated(request: FuseRequest) -> bool:
    """Say whether a request changes pixels before they are fused."""
    return request.align != "none" or bool(
        request.align_from or request.flat_field or request.dark or request.match_light
    )


def treated(job: Job, stack: Stack, *, notice: bool = True) -> Generator[Progress, None, Stack]:
    """Correct light and alignment as a job asks for, yielding between reads.

    Args:
        job: what to do.
        stack: whose planes are decoded once.
        notice: say so where slices drift and nobody asked to align them.

    Returns:
        (on exhaustion) the stack to fuse.

    Raises:
        UserInputError: transforms or pictures do not fit, or slices lie too far apart.
    """
    request, about = job.request, dict[str, Any]()
    if request.flat_field or request.dark:
        profiles = _profiles(request, stack)
        stack, about["light"] = evenly_lit(stack, profiles), profiles.about
    if request.match_light:
        lights = yield from measure_lights(job, stack)
        stack, about["slice_light"] = matched(stack, lights), lights_as_json(lights)
        if not lights:
            about["notes"] = ["All slices got the same light as far as can be told, so none was matched."]
    if request.align_from is not None:
        placement = read_placement(Path(request.align_from))
        check_fit(placement, stack.shape, job.slices, stack.name)
    elif request.align != "none":
        guides = [guide_of(job, stack, t) for t in range(stack.shape[0])]
        placement = yield from measure_placement(guides, request.align, stack.shape[2])
    else:
        if notice and job.method.decides and (job.method.by_network or min(stack.shape[3:]) >= _QUICK):
            about["notes"] = [*about.get("notes", ()), *_notes(job, stack)]
        return replace(stack, treatment={key: value for key, value in about.items() if value} or None)
    about["alignment"] = {**placement.as_json(), "farthest_px": round(placement.farthest_px, 3)}
    if request.align_frame == "crop":
        rows, columns = placement.covered()
        about["alignment"]["frame"] = {"y": [rows.start, rows.stop], "x": [columns.start, columns.stop]}
    if not placement.moves:
        about["notes"] = [
            *about.get("notes", ()),
            "No alignment made the slices agree better, so none was moved.",
        ]
    return replace(aligned(stack, placement, request.align_frame), treatment=about)


def treated_again(request: FuseRequest, stack: Stack, treatment: Mapping[str, Any] | None) -> Stack:
    """Return a stack as it was fused, from what `Stack.treatment` said then."""
    if not treatment:
        return stack
    if request.flat_field or request.dark:
        stack = evenly_lit(stack, _profiles(request, stack))
    stack = matched(stack, lights_of(treatment.get("slice_light", ())))
    if "alignment" in treatment:
        stack = aligned(stack, placement_of(treatment["alignment"]), request.align_frame)
    return replace(stack, treatment=dict(treatment))


def _profiles(request: FuseRequest, stack: Stack) -> Profiles:
    names = [channel.name for channel in stack.channels]
    return read_profiles(request.flat_field, request.dark, stack.shape[3:], names, stack.name)


def placement_in(treatment: Mapping[str, Any] | None) -> Placement | None:
    """Return where slices lay, from what `Stack.treatment` says; None if nobody looked."""
    stored = (treatment or {}).get("alignment")
    return None if stored is None else placement_of(stored)


def transforms_path(output: Path) -> Path:
    """Return where the transforms of a result stand: `X.transforms.json` beside `X.ome.zarr`."""
    suffix = output_suffix(output) or output.suffix
    return output.with_name(f"{output.name[: len(output.name) - len(suffix)]}.transforms.json")


def check_transforms(output: Path, request: FuseRequest, *, overwrite: bool) -> None:
    """Refuse, before anything is read, to write over transforms, or over those that are applied.

    Raises:
        UserInputError: they exist.
    """
    path = transforms_path(output)
    if request.align == "none" and request.align_from is None:
        return
    if request.align_from is not None and path.exists() and path.samefile(request.align_from):
        raise UserInputError(
            f"The output would replace {path.name}, which --align-from reads; expected another place, since inputs are "
            "never written to. Choose another output."
        )
    if path.exists() and not overwrite:
        raise UserInputError(
            f"{path} exists already; expected a new name. Choose another name, or --overwrite (Python: overwrite=True)."
        )


def write_transforms(output: Path, stack: Stack) -> None:
    """Write where slices lay beside a result; what an older result of this name left there goes."""
    text = transforms_text(stack)
    if text is not None:
        write_whole(transforms_path(output), text.encode())


def transforms_text(stack: Stack) -> str | None:
    """Return what a file of transforms says of a stack that was aligned; None of any other."""
    placement = placement_in(stack.treatment)
    if placement is None:
        return None
    return json.dumps({"stack": stack.name, **placement.as_json()}, indent=1, ensure_ascii=False)


def guide_of(job: Job, stack: Stack, t: int) -> Guide:
    """Return what is looked at to align a time point: the channels of the first decider, each by its own spread."""
    channels, plane = job.deciders[0].guide, stack.shape[3:]
    middle = [job.slices[len(job.slices) // 2]]
    y, x = (slice(max(0, size // 2 - 256), size // 2 + 256) for size in plane)
    spreads = [float(np.nanstd(stack.read(t, c, middle, y, slice(x.start, min(x.stop, plane[1])))
                               .astype(np.float64))) for c in channels] if len(channels) > 1 else [1.0]  # fmt: skip

    def read(slices: Sequence[int], rows: slice, columns: slice) -> NDArray[np.float32]:
        planes = [stack.read(t, c, list(slices), rows, columns) for c in channels]
        if stack.rgb:
            found = np.asarray(luminance(planes), np.float32)
        else:
            found = np.zeros(planes[0].shape, np.float32)
            for counts, spread in zip(planes, spreads, strict=True):
                found += counts.astype(np.float32) / np.float32(spread or 1)
        return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0) if stack.dtype.kind == "f" else found

    return Guide(read, job.slices, plane, stack.name)


def _notes(job: Job, stack: Stack) -> list[str]:
    """Say so if slices drift; looks at the first time point."""
    drift = visible_drift(guide_of(job, stack, 0))
    if drift is None:
        return []
    return [
        f"Slices seem to lie {drift:.0f} px or more apart sideways; --align shift (Python: align=) takes that back."
    ]
