"""Slices that got more light than others, in a fusion: decisions always know, pixels are matched if that is asked."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from hybridfusion_core.fusion.blank_slices import kept_slices
from hybridfusion_core.fusion.block import guide_planes, read_planes
from hybridfusion_core.fusion.job import Decider, Job
from hybridfusion_core.fusion.tiles import blocks
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.model.slice_light import SliceLight
from hybridfusion_core.progress import Progress
from hybridfusion_core.shading.flicker import LightCollector
from hybridfusion_core.shading.matched import Lights
from hybridfusion_core.stack import Stack

_LIGHT = TypeAdapter(SliceLight)


def light_collector(job: Job, stack: Stack, decider: Decider) -> LightCollector:
    """Return what gathers the light of the channels that decide, over a whole field."""
    return LightCollector(1 if stack.rgb else len(decider.guide), stack.shape[3:], len(job.slices))


def with_light(job: Job, light: LightCollector, statistics: FieldStatistics) -> FieldStatistics:
    """Write down how much light each slice of a field got."""
    return replace(statistics, light=light.found(kept_slices(job, statistics), _known_dark(job)))


def with_own_light(
    job: Job, stack: Stack, statistics: Sequence[Sequence[FieldStatistics]]
) -> list[list[FieldStatistics]]:
    """Add how much light the slices of a stack got to statistics that were measured on other fields; reads it once.

    Args:
        job: what to do.
        stack: what will be fused.
        statistics: for each time point, one for each decider, of its blank slices.
    """
    return [
        [
            with_light(job, _gathered(job, stack, t, decider), known)
            for decider, known in zip(job.deciders, of_frame, strict=False)
        ]
        for t, of_frame in enumerate(statistics)
    ]


def measure_lights(job: Job, stack: Stack) -> Generator[Progress, None, dict[tuple[int, int], SliceLight]]:
    """Measure how much light every slice of every channel got, yielding after each channel.

    Returns:
        (on exhaustion) by T and C, of all slices of the stack; without channels whose slices all got the same.
    """
    channels = sorted({channel for each in job.deciders for channel in (*each.guide, *each.serves)})
    groups = [tuple(channels)] if stack.rgb else [(channel,) for channel in channels]
    found: dict[tuple[int, int], SliceLight] = {}
    steps = [(t, group) for t in range(stack.shape[0]) for group in groups]
    for done, (t, group) in enumerate(steps):
        for light in _gathered(job, stack, t, Decider(group, group)).found(dark=0.0 if stack.rgb else _known_dark(job)):
            gains = np.ones(stack.shape[2])
            gains[list(job.slices)] = light.gains
            found.update(dict.fromkeys(((t, c) for c in group), replace(light, gains=tuple(map(float, gains)))))
        yield Progress("matching light", done + 1, len(steps))
    return found


def lights_as_json(lights: Lights) -> list[dict[str, Any]]:
    """Return lights as plain JSON values."""
    return [{"t": t, "c": c, **asdict(light)} for (t, c), light in sorted(lights.items())]


def lights_of(stored: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], SliceLight]:
    """Read what `lights_as_json` gave."""
    return {
        (int(each["t"]), int(each["c"])): _LIGHT.validate_python({"gains": each["gains"], "dark": each["dark"]})
        for each in stored
    }


def light_notes(job: Job, stack: Stack, statistics: Sequence[Sequence[FieldStatistics]]) -> Iterator[str]:
    """Say where slices got different light, and that the pixels still show it; one sentence for each decision."""
    for number, decider in enumerate(job.deciders):
        of_frames = [of_frame[number].light for of_frame in statistics if len(of_frame) > number]
        spread = max((light.spread for lights in of_frames for light in lights), default=0.0)
        if spread:
            names = (
                ""
                if stack.rgb or stack.shape[1] == 1
                else f" of {', '.join(stack.channels[c].name for c in decider.guide)}"
            )
            yield (
                f"Slices{names} got up to {spread:.0%} less light than others (they bleach or flicker). Decisions are "
                "made as if they had not; pixels are as they were recorded, and --match-light (Python: match_light=) "
                "makes them alike."
            )


def _known_dark(job: Job) -> float | None:
    return None if job.request.camera is None else job.request.camera.offset


def _gathered(job: Job, stack: Stack, t: int, decider: Decider) -> LightCollector:
    light = light_collector(job, stack, decider)
    for core in blocks(stack.shape[3:], job.plan.block, job.geometry):
        planes = read_planes(job, stack, t, decider, core, job.slices, with_halo=False)
        for index, counts in enumerate(guide_planes(stack, decider, planes)):
            for number, plane in enumerate(counts):
                light.add(index, number, plane, core.y.start, core.x.start)
    return light
