"""Which method, by the figures of this stack; undecided where they do not carry an answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hybridfusion_core.assess.finding import Findings, Verdict
from hybridfusion_core.assess.looked_at import LookedAt
from hybridfusion_core.assess.repeatability import Repeated

_MOSTLY_TWO = 40.0  # % of what is in focus
_SAME_DETAIL = 0.98  # correlation of a projection's detail with the fused image's
_SAME_LIGHT = 0.05  # of the range
_DETAIL = 3.0  # px; finer is detail
_BLUR = 0.05  # share of the pixels that show light, though nothing is in focus
_AS_GOOD = 0.01  # of the decisions
_BETTER = 0.02
_HEIGHT_AS_GOOD, _HEIGHT_BETTER = 1.1, 0.8  # times as far apart
_SMALL = 0.02  # slices
_SAME_CHOICE = 0.9  # share of decisions within one slice
_KEPT = 0.05  # by which agreement may stay behind what confidence promises


@dataclass(frozen=True)
class Compared:
    """What is known of the methods on this stack.

    Attributes:
        network: how the network repeats itself, or None.
        tenengrad: how Tenengrad does.
        faster: how many times as fast Tenengrad was.
    """

    network: Repeated | None
    tenengrad: Repeated | None
    faster: float


def decide(seen: LookedAt, compared: Compared, found: Findings) -> tuple[Verdict, str]:
    """Say which method this stack asks for, and why, in one sentence."""
    kinds = {each.kind for each in found.warnings}
    if "modality" in kinds:
        return (
            "undecided",
            "First settle how the light was made: what is fused as the wrong kind says nothing of methods.",
        )
    if "nothing_in_focus" in kinds:
        return _without_focus(seen)
    if found.number("two_surfaces") > _MOSTLY_TWO:
        return "do-not-fuse", "Do not fuse: most of the picture has two layers behind each other; measure in 3-D."
    if compared.network is None or compared.tenengrad is None:
        return "undecided", "Too little is in focus to compare methods."
    same, light = projection_like_fused(seen)
    found.add(
        "maximum_like_fused", same, "", f"above {_SAME_DETAIL:g} if a maximum is enough",
        f"Detail of a maximum projection correlates with that of the fused image by {same:.3f}.",
    )  # fmt: skip
    alike = same_choice(seen)
    found.add(
        "tenengrad_like_network", 100 * alike, "% of what is in focus", f"above {100 * _SAME_CHOICE:g} for Tenengrad",
        f"Tenengrad chooses the network's slice or its neighbour in {alike:.0%} of what is in focus.",
    )  # fmt: skip
    found.add(
        "tenengrad_halves_agree", 100 * compared.tenengrad.agree, "% of what is in focus", "at least the network's",
        f"Tenengrad agrees with itself on two halves of the photons in {compared.tenengrad.agree:.1%}, the network in "
        f"{compared.network.agree:.1%}.",
    )  # fmt: skip
    if same > _SAME_DETAIL and light < _SAME_LIGHT and not seen.transmitted:
        return "max", "A maximum projection shows the same detail and the same light here."
    return _network_or_tenengrad(compared, alike)


def _without_focus(seen: LookedAt) -> tuple[Verdict, str]:
    light = np.mean([tile.structure.mean() for tile in seen.tiles])
    if light > _BLUR and not seen.transmitted:
        return "sum", "Nothing is in focus, and there is light: its sum can be measured, a sharp picture cannot be had."
    return "do-not-fuse", "Do not fuse: nothing is in focus."


def _network_or_tenengrad(compared: Compared, alike: float) -> tuple[Verdict, str]:
    network, tenengrad = compared.network, compared.tenengrad
    assert network is not None and tenengrad is not None  # noqa: S101, PT018 - asked before
    as_good = (
        tenengrad.agree >= network.agree - _AS_GOOD
        and tenengrad.height <= _HEIGHT_AS_GOOD * network.height + _SMALL
        and alike >= _SAME_CHOICE
    )
    if as_good:
        speed = f"is {compared.faster:.0f} times as fast" if compared.faster >= 1.5 else "needs nothing but the pixels"
        return "tenengrad", f"Tenengrad chooses the same here, repeats itself as well, and {speed}."
    better = network.agree >= tenengrad.agree + _BETTER or network.height < _HEIGHT_BETTER * tenengrad.height - _SMALL
    if better and network.agree >= network.promised - _KEPT:
        return "network", (
            f"The network: it repeats {network.agree:.0%} of its decisions on half of the photons, Tenengrad "
            f"{tenengrad.agree:.0%}."
        )
    return "undecided", "The methods differ, and these figures do not say which one is right: look at both."


def projection_like_fused(seen: LookedAt) -> tuple[float, float]:
    """How like the fused image a maximum projection is in focus: correlation of detail, and difference of light.

    The difference is the median of what is left once the projection's mean excess, which noise alone makes, is taken
    off, in parts of the image's range.
    """
    kept = [seen.job.slices.index(int(index)) for index in seen.slices]
    details: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    away = []
    for tile in seen.tiles:
        highest = tile.counts[seen.decider.guide[0]][kept].max(axis=0).astype(np.float32)
        details.append((_detail(tile.fused)[tile.in_focus], _detail(highest)[tile.in_focus]))
        away.append((highest - tile.fused)[tile.in_focus])
    one, other = (np.concatenate(each) for each in zip(*details, strict=True))
    differs = np.concatenate(away)
    if one.size < 2 or not one.std() or not other.std():
        return 0.0, 1.0
    span = float(np.ptp(np.percentile(np.concatenate([tile.fused.ravel() for tile in seen.tiles]), (1, 99)))) or 1.0
    return float(np.corrcoef(one, other)[0, 1]), float(np.median(np.abs(differs)) / span)


def same_choice(seen: LookedAt) -> float:
    """Share of what is in focus where Tenengrad's slice is the method's, or its neighbour."""
    near, count = 0, 0
    for tile in seen.tiles:
        apart = np.abs(tile.energy.argmax(axis=0) - tile.posterior.argmax(axis=0))[tile.in_focus]
        near, count = near + int((apart <= 1).sum()), count + apart.size
    return near / max(count, 1)


def _detail(image: NDArray[np.float32]) -> NDArray[np.float32]:
    smooth = gaussian_filter(image, 1.0)  # noise is no detail
    return np.asarray(smooth - gaussian_filter(image, _DETAIL))
