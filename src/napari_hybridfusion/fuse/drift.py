"""How a stack drifts, before and after alignment: measured beside the window, and drawn as y and x over the slices."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hybridfusion_core.fusion.treated import guide_of, treated_again
from hybridfusion_core.io.decode_cache import decoded_once
from hybridfusion_core.progress import Progress
from hybridfusion_core.registration.measure import measure_placement
from hybridfusion_core.registration.placement import Kind, Placement
from hybridfusion_core.registration.resampled import aligned
from napari_hybridfusion.job.task import Task
from napari_hybridfusion.parts.ink import inks

_HEIGHT = 170  # px


@dataclass(frozen=True)
class Drift:
    """What was found.

    Attributes:
        before: where slices lie.
        after: where they lie once that is taken back.
    """

    before: Placement
    after: Placement


def measuring_drift(task: Task) -> Generator[Progress, None, Drift]:
    """Measure how the first time point of a stack drifts, and what alignment leaves of it.

    Returns:
        (on exhaustion) both.
    """
    job, stack = task.job, task.source.stack
    kind: Kind = "similarity" if job.request.align == "similarity" else "shift"
    with decoded_once(stack, job.plan.block, room=job.plan.room) as planes:
        before = yield from measure_placement([guide_of(job, planes, 0)], kind, stack.shape[2])
        after = yield from measure_placement([guide_of(job, aligned(planes, before), 0)], kind, stack.shape[2])
    return Drift(before, after)


class DriftPlot(FigureCanvasQTAgg):
    """Two lines, y and x in pixels over the slices, before and after.

    Attributes:
        shown: what is drawn; None before anything was measured.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(3, 1.7), layout="constrained", facecolor="none")
        super().__init__(self.figure)  # type: ignore[no-untyped-call]
        self.setStyleSheet("background: transparent")
        self.setFixedHeight(_HEIGHT)
        self.shown: Drift | None = None
        self.setVisible(False)

    def show_drift(self, drift: Drift) -> None:
        """Draw."""
        self.shown = drift
        ink = inks().plain
        self.figure.clear()
        panels = self.figure.subplots(1, 2, sharey=True)
        for axes, title, placement in zip(panels, ("before", "after"), (drift.before, drift.after), strict=True):
            frame = placement.frame(0)
            numbers = sorted(frame)
            moves = np.array([(frame[z].dy, frame[z].dx) for z in numbers])
            for letter, values, style in zip("yx", moves.T, ("-", "--"), strict=True):
                axes.plot([z + 1 for z in numbers], values, style, color=ink, linewidth=1, label=letter)
            axes.set_title(f"{title}: {placement.farthest_px:.1f} px", color=ink, fontsize=8)
            axes.set_facecolor("none")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            axes.set_xlabel("slice", color=ink, fontsize=8)
            axes.tick_params(colors=ink, labelsize=8)
            for side, spine in axes.spines.items():
                spine.set_visible(side in ("left", "bottom"))
                spine.set_color(ink)
        panels[0].set_ylabel("drift (px)", color=ink, fontsize=8)
        panels[0].legend(fontsize=8, labelcolor=ink, frameon=False)
        self.setVisible(True)
        self.draw_idle()  # type: ignore[no-untyped-call]


def drift_text(drift: Drift) -> str:
    """Say in one line what was found."""
    if not drift.before.moves:
        return "No drift: no alignment makes the slices agree better."
    return f"Slices lie up to {drift.before.farthest_px:.1f} px from their place; choose align to take it back."


def as_fused(task: Task, treatment: object) -> Task:
    """Return a task whose stack is the one that was fused, in even light and aligned: what decisions count in."""
    known = treatment if isinstance(treatment, dict) else None
    if known is None or not {"alignment", "light", "slice_light"} & set(known):
        return task
    stack = treated_again(task.job.request, task.source.stack, known)
    return replace(task, source=replace(task.source, stack=stack))
