"""What an assessment says: figures, each with its unit, what it should be and a sentence, and warnings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "cut_at_start",
    "cut_at_end",
    "too_coarse",
    "modality",
    "drift",
    "two_surfaces",
    "saturated",
    "clipped",
    "bad_pixels",
    "bleaching",
    "uneven_light",
    "nothing_in_focus",
]
Verdict = Literal["network", "tenengrad", "max", "sum", "do-not-fuse", "undecided"]


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        value: a number or a word; None where it could not be measured.
        unit: "" if it has none.
        should_be: in words.
        sentence: what it means here, in plain English.
    """

    value: float | str | None
    unit: str
    should_be: str
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values, rounded to what was measured."""
        value = self.value
        if isinstance(value, float):
            value = float(f"{value:.4g}") if math.isfinite(value) else None
        return {"value": value, "unit": self.unit, "should_be": self.should_be, "sentence": self.sentence}


@dataclass(frozen=True)
class Warned:
    """Something that a person should know before the result is used.

    Attributes:
        kind: which of a fixed list.
        message: what was found and what to do about it.
        figure: name of the figure that shows it.
    """

    kind: Kind
    message: str
    figure: str


@dataclass
class Findings:
    """Figures and warnings while they are gathered."""

    figures: dict[str, Figure]
    warnings: list[Warned]

    def add(self, name: str, value: float | str | None, unit: str, should_be: str, sentence: str) -> None:
        """Write down a figure."""
        self.figures[name] = Figure(value, unit, should_be, sentence)

    def warn(self, kind: Kind, figure: str, message: str) -> None:
        """Warn of what a figure shows."""
        self.warnings.append(Warned(kind, message, figure))

    def number(self, name: str) -> float:
        """Value of a figure that is a number; NaN where it was not measured."""
        figure = self.figures.get(name)
        return figure.value if figure is not None and isinstance(figure.value, float) else math.nan
