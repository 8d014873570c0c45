"""What a method says of a tile's window: scores of every slice, and where anything is in focus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.fusion.blank_slices import blank_of, kept_slices
from hybridfusion_core.fusion.block import Planes, fill, guide_planes
from hybridfusion_core.fusion.device_settings import compiled_network
from hybridfusion_core.fusion.job import Decider, Job
from hybridfusion_core.model.arrays import Array, like, namespace, tiny
from hybridfusion_core.model.devices import OPENVINO
from hybridfusion_core.model.focus_measures import COARSE_FROM, exceeds_noise, greater, structure_energies
from hybridfusion_core.model.noise import FieldStatistics
from hybridfusion_core.model.posterior import IN_FOCUS, Scores, focus_posterior, fusion_weights, in_focus_probability
from hybridfusion_core.model.threads import lanes, thread_count
from hybridfusion_core.stack import Stack

_CLASSICAL_SHARPNESS = 4.0  # classical weights are energies to this power


@dataclass(frozen=True)
class Window:
    """What a method says of the slices of a window, without its halo.

    Attributes:
        scores: focus and spread, Z h w each; those of a classical method know no spread.
        temperature: of the posterior.
        in_focus: h w in [0, 1], how probable it is that anything is; None if nothing that was asked for needs it.
        structure: h w, bool, where something is; likewise.
        blocked: Z h w, bool, pixels that have no part; None if all have one.
    """

    scores: Scores
    temperature: float
    in_focus: Array | None
    structure: Array | None
    blocked: Array | None

    def part(self, y: slice, x: slice) -> Window:
        """Take a rectangle."""
        focus, spread, _ = self.scores
        sharp = Scores(focus[:, y, x], None if spread is None else spread[:, y, x])
        in_focus, structure = (None if each is None else each[y, x] for each in (self.in_focus, self.structure))
        blocked = None if self.blocked is None else self.blocked[:, y, x]
        return Window(sharp, self.temperature, in_focus, structure, blocked)

    def posterior(self) -> Array:
        """How probable each slice is to be the sharpest: Z h w in [0, 1], sum one over Z but 0 where blocked."""
        posterior = focus_posterior(_with_batch(self.scores), self.temperature)[0]
        if self.blocked is None:
            return posterior
        return namespace(posterior).where(self.blocked, 0, posterior)

    def weights(self) -> Array:
        """What fuses the slices: Z h w in [0, 1], sum one over Z."""
        if self.scores.spread is None:
            return focus_posterior(_with_batch(self.scores))[0]
        return fusion_weights(_with_batch(self.scores))[0]


def _with_batch(scores: Scores) -> Scores:
    return Scores(scores.focus[None], None if scores.spread is None else scores.spread[None])


def score_window(
    job: Job,
    stack: Stack,
    decider: Decider,
    planes: Planes,
    statistics: FieldStatistics,
    *,
    structure: bool = False,
) -> Window:
    """Score the slices of a window that are not blank; see `kept_slices`.

    Args:
        job: what to do.
        stack: for what it says of its channels.
        decider: which channels decide.
        planes: of the window, Z h w by channel.
        statistics: of the whole field.
        structure: say what is in focus also if no product needs that.
    """
    counts = guide_planes(stack, decider, _without_blank(job, decider, planes, statistics))
    guide, invalid = _guide(job, counts, statistics), None
    if any(each.dtype.kind == "f" for each in counts):
        guide, invalid = fill(guide)
    inner = _inner(job)
    placed = guide if job.device == "cpu" else _on_device(guide, job.device)
    scores = score(job, decider, placed, statistics.noise)
    temperature, in_focus, found = 1.0, None, None
    if decider.model is not None:
        temperature = decider.model.parameters.temperature
    if structure or job.projections or job.products != ("fused",):
        if scores.in_focus is None or decider.model is None:
            found = _structure(job, placed, statistics.noise)[inner]
            in_focus = namespace(found).astype(found, scores.focus.dtype)
        else:
            line = like(decider.model.parameters.in_focus_line, scores.in_focus)
            in_focus = in_focus_probability(scores, line)
            found = in_focus > IN_FOCUS
    blocked = None
    if invalid is not None:
        blocked = like(invalid[(slice(None), *inner)], scores.focus)
        somewhere = ~namespace(blocked).all(blocked, axis=0)
        found = None if found is None else found & somewhere
        in_focus = None if in_focus is None else in_focus * somewhere
    return Window(scores, temperature, in_focus, found, blocked)


def score(job: Job, decider: Decider, guide: Array, noise: float) -> Scores:
    """Score the slices of a guide by the job's method.

    Args:
        job: says which method, and how.
        decider: whose guide it is; says which network.
        guide: Z H W, a window; H and W multiples of the lattice.
        noise: standard deviation of the noise in `guide`.

    Returns:
        Of the window without its halo, Z h w each (in_focus: h w).
    """
    if (energy := job.method.energy) is not None:
        return Scores(_sharpness(job, energy, guide), None)
    assert decider.model is not None  # noqa: S101 - narrows the type
    if job.runtime.package == OPENVINO:
        found = compiled_network(job, decider.model.parameters)(guide[None], noise, job.geometry.halo)
        return Scores(*(None if each is None else each[0] for each in found))
    return _by_pytorch(job, decider, guide, noise)


def _by_pytorch(job: Job, decider: Decider, guide: Array, noise: float) -> Scores:
    import torch

    assert decider.model is not None  # noqa: S101 - narrows the type
    device, inner = torch.device(job.device), _inner(job)
    level = torch.tensor([noise], dtype=torch.float32, device=device)
    low = job.request.precision == "bfloat16"
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16) if low else nullcontext():
        scores = decider.model.network(torch.as_tensor(guide, device=device)[None], level, job.plan.z_chunk)
    found = (None if each is None else each[0][(..., *inner)].float() for each in scores)
    return Scores(*(each if each is None or job.device != "cpu" else each.numpy() for each in found))


def _sharpness(job: Job, measure_focus: Callable[[Array], Array], guide: Array) -> Array:
    """Logarithm of the weights of slices by a classical measure: Z H W -> Z h w, without the halo."""
    xp, inner = namespace(guide), _inner(job)
    height, width = (size - 2 * job.geometry.halo for size in guide.shape[1:])
    found = xp.empty_like(guide[:, :height, :width])
    least = tiny(guide)

    def measure(z: int) -> None:
        energy = measure_focus(guide[z][None])[0][inner]
        found[z] = _CLASSICAL_SHARPNESS * xp.log(xp.clip(energy, min=least))

    _each_slice(job, lambda: measure, len(guide))
    return found


def _guide(job: Job, counts: Sequence[NDArray[Any]], statistics: FieldStatistics) -> NDArray[np.float32]:
    """What decides, Z H W, of the channels that do; slice by slice, each one's scratch memory alone."""
    guide = np.empty(counts[0].shape, np.float32)

    def make(z: int) -> None:
        guide[z : z + 1] = statistics.guide([each[z : z + 1] for each in counts], z)

    lanes(thread_count(job.request.threads)).each(lambda: make, range(len(guide)))
    return guide


def _structure(job: Job, guide: Array, noise: float) -> Array:
    """Where any slice of a guide, Z H W, shows more than noise, as `has_structure` says it: H W, bool."""
    level = like(np.full(1, noise, np.float32), guide)
    seen: list[list[Array]] = []  # the greatest energies of each thread's slices

    def lane() -> Callable[[int], None]:
        own: list[Array] = []
        seen.append(own)

        def look(z: int) -> None:
            own[:] = greater(own, structure_energies(guide[z][None], noisy=noise > COARSE_FROM))

        return look

    _each_slice(job, lane, len(guide))
    energies: list[Array] = []
    for own in seen:
        energies = greater(energies, own)
    return exceeds_noise(energies, level, len(guide))[0]


def _each_slice(job: Job, lane: Callable[[], Callable[[int], None]], slices: int) -> None:
    """Deal slices out to threads of a CPU; a GPU takes one after the other."""
    lanes(thread_count(job.request.threads) if job.device == "cpu" else 1).each(lane, range(slices))


def _inner(job: Job) -> tuple[slice, slice]:
    """A window without its halo."""
    halo = job.geometry.halo
    return (slice(halo, -halo),) * 2


def _on_device(guide: NDArray[np.float32], device: str) -> Array:
    import torch

    return torch.from_numpy(guide).to(device)


def _without_blank(job: Job, decider: Decider, planes: Planes, statistics: FieldStatistics) -> Planes:
    """Leave blank slices out of what decides; where only some channels are saturated, they say nothing there."""
    if not (statistics.blank or statistics.blank_of):
        return planes
    kept, left = kept_slices(job, statistics), {}
    for index, channel in enumerate(decider.guide):
        counts = planes[channel].copy()
        for position in blank_of(job, statistics, channel):
            counts[position] = statistics.models[min(index, len(statistics.models) - 1)].low  # colours have one model
        left[channel] = counts[kept]
    return left
