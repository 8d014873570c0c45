"""The whole assessment of one stack: figures, warnings, a verdict, and what ties it to its input."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

from hybridfusion_core.assess.content import judge_content
from hybridfusion_core.assess.detector import judge_detector
from hybridfusion_core.assess.drift import judge_drift
from hybridfusion_core.assess.finding import Findings, Verdict
from hybridfusion_core.assess.light import judge_light
from hybridfusion_core.assess.looked_at import LookedAt, look
from hybridfusion_core.assess.modality import TRANSMITTED, judge_modality
from hybridfusion_core.assess.pictures import Curve, pictures_of, sharpest_by_slice
from hybridfusion_core.assess.repeatability import Repeated, judge_repeatability, repeat
from hybridfusion_core.assess.sampling import judge_sampling
from hybridfusion_core.assess.verdict import Compared, decide
from hybridfusion_core.fusion.enough_slices import refuse_single_slice
from hybridfusion_core.fusion.job import Job, resolve
from hybridfusion_core.fusion.provenance import provenance
from hybridfusion_core.fusion.request import FuseRequest
from hybridfusion_core.progress import Progress
from hybridfusion_core.stack import Stack
from hybridfusion_core.view.pixels import Picture

_PRODUCTS = ("fused", "decision", "confidence", "in_focus")
_HASHED = 1 << 30  # bytes of input that are read for a checksum without being asked


@dataclass(frozen=True)
class Assessment:
    """What was found.

    Attributes:
        name: of the stack.
        verdict: which method the figures ask for.
        sentence: why.
        findings: figures and warnings.
        looked_at: how much was looked at, plain JSON values.
        ties: hashes and settings that tie it to input, model and result, plain JSON values.
        pictures: of the tile with most in focus.
        curves: of what is sharpest where, and of promises kept.
    """

    name: str
    verdict: Verdict
    sentence: str
    findings: Findings
    looked_at: dict[str, Any]
    ties: dict[str, Any]
    pictures: tuple[Picture, ...] = field(default=(), repr=False)
    curves: tuple[Curve, ...] = field(default=(), repr=False)

    @property
    def figures(self) -> dict[str, Any]:
        """Figures by name: value, unit, what it should be, and a sentence."""
        return {name: figure.as_json() for name, figure in self.findings.figures.items()}

    @property
    def warnings(self) -> list[dict[str, str]]:
        """Kind, message and the name of the figure that shows it."""
        return [{"kind": each.kind, "message": each.message, "figure": each.figure} for each in self.findings.warnings]

    @property
    def methods(self) -> str:
        """A paragraph for the Methods of a paper."""
        at, ties = self.looked_at, self.ties
        model = ties["model"]
        names = ", ".join(each["name"] for each in (model if isinstance(model, list) else [model] if model else []))
        promised = self.figures.get("halves_agree")
        kept = f" {promised['sentence']}" if promised else ""
        warned = ", ".join(sorted({each["kind"].replace("_", " ") for each in self.warnings})) or "nothing"
        return (
            f"Whether focal stacks could be fused was assessed with {ties['software']} (algorithm "
            f"{ties['algorithm_version']}, "
            f"model {names or 'none'}) on {at['tiles']} tiles of {at['tile_px'][0]} × {at['tile_px'][1]} pixels, "
            f"{at['share_of_plane']:.0%} of the plane, and all {at['slices']} slices.{kept} "
            f"Warned of: {warned}. Verdict: {self.verdict}."
        )

    def as_json(self) -> dict[str, Any]:
        """Everything but the pictures, as plain JSON values."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "warnings": self.warnings,
            "figures": self.figures,
            "looked_at": self.looked_at,
            "methods": self.methods,
            **self.ties,
        }


def assess_stack(
    stack: Stack, request: FuseRequest, *, checksum: bool = False, tiles: int | None = None
) -> Generator[Progress, None, Assessment]:
    """Assess a stack, yielding progress.

    Args:
        stack: two slices at least.
        request: how it would be fused.
        checksum: hash all of the input, however large.
        tiles: how many to look at, at most; None plans them.

    Returns:
        (on exhaustion) the `Assessment`.

    Raises:
        UserInputError: there is nothing to fuse, or it cannot be fused as asked.
    """
    asked = replace(request, products=_PRODUCTS, method="network" if not _decides(request) else request.method)
    job = resolve(asked, stack)
    refuse_single_slice(stack, len(job.slices), "assess")
    seen: LookedAt | None = None
    for step in look(job, stack, tiles):
        if isinstance(step, LookedAt):
            seen = step
        else:
            yield step
    assert seen is not None  # noqa: S101 - the last of what `look` yields
    found = Findings({}, [])
    judge(seen, found)
    compared = yield from _compared(seen, job, found)
    judge_repeatability(seen, compared.network, found)
    verdict, sentence = decide(seen, compared, found)
    ties = _ties(job, stack, seen, checksum=checksum)
    curves = [sharpest_by_slice(seen)]
    if compared.network is not None:
        curves.append(Curve.of_promises(compared.network))
    return Assessment(stack.name, verdict, sentence, found, _looked_at(seen), ties, pictures_of(seen), tuple(curves))


def _decides(request: FuseRequest) -> bool:
    return request.method in ("network", "tenengrad", "laplacian")


def judge(seen: LookedAt, found: Findings) -> None:
    """All that is measured on one look; what follows from the wrong kind of light is not said."""
    judge_modality(seen, found)
    wrong_light = bool(found.warnings)
    lamp = any(figure.value == TRANSMITTED for figure in found.figures.values())
    own = Findings(found.figures, []) if wrong_light else found
    judge_content(seen, own)
    judge_sampling(seen, own)
    judge_drift(seen, own)
    judge_detector(seen, found)
    judge_light(seen, found)
    if lamp:  # a dark border of a bright field is no ground that was cut off
        found.warnings = [each for each in found.warnings if each.kind != "clipped"]
    if own is not found:
        found.warnings += [each for each in own.warnings if each.kind in ("nothing_in_focus", "drift")]


def _compared(seen: LookedAt, job: Job, found: Findings) -> Generator[Progress, None, Compared]:
    """Look again with the network and with Tenengrad, where that says anything."""
    if any(each.kind in ("nothing_in_focus", "modality") for each in found.warnings):
        return Compared(None, None, 1.0)
    looks: list[Repeated | None] = []
    seconds = []
    for method in dict.fromkeys((job.request.method, "tenengrad")):
        other = job if method == job.request.method else resolve(replace(job.request, method=method), seen.stack)
        started = time.perf_counter()
        last: Repeated | None = None
        for step in repeat(seen, other):
            if isinstance(step, Progress):
                yield step
            else:
                last = step
        seconds.append(time.perf_counter() - started)
        looks.append(last)
    return Compared(looks[0], looks[-1], max(1.0, seconds[0] / max(seconds[-1], 1e-9)))


def _looked_at(seen: LookedAt) -> dict[str, Any]:
    first = seen.tiles[0].in_focus.shape
    return {
        "time_point": 0,
        "channels": [seen.stack.channels[index].name for index in seen.decider.guide],
        "slices": len(seen.slices),
        "tiles": len(seen.tiles),
        "tile_px": [int(first[0]), int(first[1])],
        "tiles_at": [[tile.rect.y.start, tile.rect.x.start] for tile in seen.tiles],
        "share_of_plane": round(seen.share, 4),
    }


def _ties(job: Job, stack: Stack, seen: LookedAt, *, checksum: bool) -> dict[str, Any]:
    told = provenance(job, stack)
    size = sum(each.get("bytes", 0) for each in told["input"])
    if told["input"] and (checksum or size <= _HASHED):
        told = provenance(job, stack, checksum=True)
    digest = hashlib.sha256()
    for tile in seen.tiles:
        for channel in sorted(tile.counts):
            digest.update(tile.counts[channel].tobytes())
    kept = ("software", "algorithm_version", "input", "model", "settings", "runtime")
    return {**{key: told[key] for key in kept}, "pixels_sha256": digest.hexdigest(), "result": None}
