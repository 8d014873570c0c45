"""What was measured, as tables for people and as plain values for machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridfusion_core.errors import printable
from hybridfusion_core.evaluate.figure_panels import Look
from hybridfusion_core.evaluate.methods import CLASSICAL, NETWORK, NETWORK_HARD, TENENGRAD
from hybridfusion_core.evaluate.metrics.calibration import Reliability
from hybridfusion_core.evaluate.metrics.interval import Gain, paired_gain
from hybridfusion_core.evaluate.scores import FIGURES, Figure

Figures = dict[str, NDArray[np.float64]]  # key of a figure -> one value per stack

_FIRST = (NETWORK, NETWORK_HARD, TENENGRAD, CLASSICAL)


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; the first column names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_markdown(self) -> str:
        """Lay out for a text file; names come from untrusted files and are escaped."""
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        return "\n".join(
            "| " + " | ".join(printable(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
        )


@dataclass(frozen=True)
class Scoreboard:
    """Figures of one group of stacks.

    Attributes:
        name: of the group.
        truth: what was compared with: "truth", "reference", or empty.
        stacks: their names.
        figures: by method and key.
        reliability: by method, pooled over the stacks.
        looks: pictures of the stacks about which the methods differ most.
    """

    name: str
    truth: str
    stacks: tuple[str, ...]
    figures: dict[str, Figures]
    reliability: dict[str, Reliability]
    looks: tuple[Look, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The network first, its rivals next."""
        return tuple(sorted(self.figures, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST)))

    def means(self) -> Table:
        """Mean of every figure over the stacks, by method."""
        shown = [each for each in FIGURES if any(np.isfinite(of[each.key]).any() for of in self.figures.values())]
        head = ["method", *(each.heading for each in shown)]
        if self.reliability:
            head.append("calibration error")
        rows = []
        for method in self.methods:
            row = [method, *(_number(_mean(self.figures[method][each.key]), each.digits) for each in shown)]
            if self.reliability:
                sure = self.reliability.get(method)
                row.append(_number(np.nan if sure is None else sure.expected_error, 3))
            rows.append(tuple(row))
        return Table(tuple(head), tuple(rows))

    def gains(self) -> Table:
        """Paired differences to the network, with interval and worst tenth."""
        pairs = list(self._pairs())
        shown = [each for each in FIGURES if each.gain and any(self.gain(*pair, each) for pair in pairs)]
        rows = tuple(
            (f"{ours} − {theirs}", *(_gain(self.gain(ours, theirs, each), each) for each in shown))
            for ours, theirs in pairs
        )
        return Table(("difference", *(each.heading for each in shown)), rows)

    def gain(self, ours: str, theirs: str, figure: Figure) -> Gain | None:
        """Compare two methods by one figure."""
        values = self.figures[ours][figure.key], self.figures[theirs][figure.key]
        return paired_gain(*values, more_is_better=figure.more_is_better is not False)

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for ours in (NETWORK, NETWORK_HARD):
            for theirs in self.methods:
                if theirs not in (NETWORK, ours) and ours in self.figures:
                    yield ours, theirs


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured.

    Attributes:
        boards: by name of the group.
        artefacts: of specimens made for them: name -> method -> value; empty for folders.
        broken: what is wrong with each stack that was not scored.
    """

    boards: dict[str, Scoreboard]
    artefacts: dict[str, dict[str, float]]
    broken: list[str]

    def as_json(self) -> dict[str, Any]:
        """Every figure, as plain JSON values; what could not be measured is null."""
        groups = {
            name: {
                "truth": board.truth or None,
                "stacks": list(board.stacks),
                "figures": {
                    method: {key: _plain(values) for key, values in of.items() if np.isfinite(values).any()}
                    for method, of in board.figures.items()
                },
                "calibration_error": {
                    method: _plain([sure.expected_error])[0] for method, sure in board.reliability.items()
                },
            }
            for name, board in self.boards.items()
        }
        return {"groups": groups, "artefacts": self.artefacts, "broken": self.broken}

    def metrics(self) -> dict[str, float]:
        """Means for a model's card."""
        found = {}
        for name, board in self.boards.items():
            network = board.figures[NETWORK]
            found[f"{name}: PSNR, dB"] = _mean(network["psnr"])
            for theirs, called in ((TENENGRAD, "Tenengrad"), (CLASSICAL, "the best classical with hindsight")):
                found[f"{name}: lead over {called}, dB"] = _mean(network["psnr"] - board.figures[theirs]["psnr"])
            found[f"{name}: PSNR without detail, dB"] = _mean(network["psnr_bare"])
            found[f"{name}: height error, slices"] = _mean(network["height"])
            if NETWORK in board.reliability:
                found[f"{name}: calibration error"] = board.reliability[NETWORK].expected_error
        found |= {name: of_method[NETWORK] for name, of_method in self.artefacts.items()}
        return {name: round(value, 3) for name, value in found.items() if np.isfinite(value)}

    def as_text(self) -> str:
        """Tables in Markdown."""
        parts = []
        for board in self.boards.values():
            title = f"## {printable(board.name)} ({len(board.stacks)} stacks)"
            parts += [title, board.means().as_markdown(), board.gains().as_markdown()]
        if self.artefacts:
            parts += ["## Specimens made for artefacts", self.artefact_table().as_markdown()]
        return "\n\n".join(parts)

    def artefact_table(self) -> Table:
        """The artefacts, by method."""
        rows = tuple(
            (name, *(_number(of_method[way], 3) for way in (NETWORK, TENENGRAD)))
            for name, of_method in self.artefacts.items()
        )
        return Table(("artefact", NETWORK, TENENGRAD), rows)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan


def _number(value: float, digits: int, *, signed: bool = False) -> str:
    if not np.isfinite(value):
        return "–"
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return text.replace("-", "−")


def _gain(gain: Gain | None, figure: Figure) -> str:
    """Mean, 95 % interval and worst tenth of paired differences."""
    if gain is None:
        return "–"
    mean, low, high, worst = (
        _number(value, figure.digits, signed=True) for value in (gain.mean, gain.low, gain.high, gain.worst)
    )
    return f"{mean} [{low}, {high}], worst tenth {worst}"


def _plain(values: Sequence[float] | NDArray[np.float64]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
