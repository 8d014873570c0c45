"""Score groups of stacks, one stack in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hybridfusion_core.errors import HybridFusionError
from hybridfusion_core.evaluate import synthetic_artefacts
from hybridfusion_core.evaluate.cases import Group, scene_groups
from hybridfusion_core.evaluate.figure_panels import Look, look_at, most_telling
from hybridfusion_core.evaluate.folder import folder_groups, has_known
from hybridfusion_core.evaluate.methods import NETWORK, TENENGRAD
from hybridfusion_core.evaluate.metrics.calibration import Reliability
from hybridfusion_core.evaluate.plates import plate_groups
from hybridfusion_core.evaluate.scores import FIGURES, Scored, score_case
from hybridfusion_core.evaluate.tables import Evaluation, Scoreboard
from hybridfusion_core.scenes.scene import KINDS, SceneKind

Report = Callable[[int, int], None]


def evaluate_methods(
    model: str,
    *,
    scenes: int,
    kinds: Sequence[SceneKind] = KINDS,
    device: str = "auto",
    looks: bool = False,
    report: Report | None = None,
) -> Evaluation:
    """Fuse unseen scenes of every kind and noise regime, compare with their truth, and measure artefacts.

    Args:
        model: as for `fuse`.
        scenes: stacks per kind and regime; the same number always gives the same stacks.
        kinds: of scenes.
        device: as for `fuse`.
        looks: also keep pictures for a page.
        report: called after each stack with how many are done and how many there are.
    """
    found = evaluate_cases(scene_groups(scenes, tuple(kinds)), model, device=device, looks=looks, report=report)
    ways = {
        NETWORK: {"model": model, "device": device},
        TENENGRAD: {"method": "tenengrad", "select": "hard", "device": device},
    }
    measured = {way: synthetic_artefacts.measure_artefacts(options) for way, options in ways.items()}
    found.artefacts.update({name: {way: measured[way][name] for way in ways} for name in measured[NETWORK]})
    return found


def evaluate_folder(
    folder: Path,
    model: str,
    *,
    results: Path | None = None,
    device: str = "auto",
    looks: bool = False,
    report: Report | None = None,
) -> Evaluation:
    """Score the stacks of a folder; what is laid out where is said in `folder`, of plates in `plates`.

    Args:
        folder: holds the stacks; or a plate, whose fields are scored.
        model: as for `fuse`.
        results: other programs' results on the same stacks.
        device: as for `fuse`.
        looks: also keep pictures for a page.
        report: called after each stack with how many are done and how many there are.

    Returns:
        The figures of all sound stacks; `broken` says what is wrong with the others.

    Raises:
        UserInputError: no such folder, or nothing in it to score.
    """
    plate = None if results is not None or has_known(folder) else plate_groups(folder)
    groups, broken = folder_groups(folder, results) if plate is None else plate
    found = evaluate_cases(groups, model, device=device, looks=looks, report=report)
    found.broken[:0] = broken
    return found


def evaluate_cases(
    groups: Sequence[Group], model: str, *, device: str = "auto", looks: bool = False, report: Report | None = None
) -> Evaluation:
    """Score groups of stacks; a stack that cannot be fused is named and the others go on."""
    boards, broken = {}, []
    total, done = sum(group.count for group in groups), 0
    for group in groups:
        rows: list[tuple[str, Scored]] = []
        kept: list[Look] = []
        for open_case in group.cases:
            try:
                case = open_case()
                scored = score_case(case, model, device)
            except HybridFusionError as error:
                broken.append(str(error))
            else:
                if looks:
                    kept = most_telling([*kept, look_at(case, scored)])
                # The pictures are the bulk of it; a table needs none.
                rows.append((case.name, Scored(scored.scores, scored.reliability, {})))
            done += 1
            if report is not None:
                report(done, total)
        if rows:
            boards[group.name] = _scoreboard(group, rows, kept)
    return Evaluation(boards, {}, broken)


def _scoreboard(group: Group, rows: list[tuple[str, Scored]], looks: list[Look]) -> Scoreboard:
    methods = list(dict.fromkeys(method for _, scored in rows for method in scored.scores))
    figures = {
        method: {
            figure.key: np.array([scored.scores.get(method, {}).get(figure.key, np.nan) for _, scored in rows])
            for figure in FIGURES
        }
        for method in methods
    }
    sure = {
        method: Reliability.pooled([scored.reliability[method] for _, scored in rows if method in scored.reliability])
        for method in methods
        if any(method in scored.reliability for _, scored in rows)
    }
    return Scoreboard(group.name, group.truth, tuple(name for name, _ in rows), figures, sure, tuple(looks))
