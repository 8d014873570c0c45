"""The page: every table, reliability diagrams, and crops side by side; one HTML file with its pictures inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hybridfusion_core.errors import UserInputError, printable
from hybridfusion_core.evaluate.figure_panels import Look
from hybridfusion_core.evaluate.methods import NETWORK, TENENGRAD
from hybridfusion_core.evaluate.tables import Evaluation, Scoreboard
from hybridfusion_core.io.disk.atomic import Delivery, explained
from hybridfusion_core.view.page import inline, render_page

_SIDE = 240  # px of a reliability diagram


class Page:
    """A file that appears once it is whole; it is claimed before anything is computed.

    Args:
        path: ends in .html.
        overwrite: replace an existing page.

    Raises:
        UserInputError: another suffix, or a file that may not be written.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        if path.suffix.lower() not in (".html", ".htm"):
            raise UserInputError(f"The page {path.name!r} has another suffix; expected a name that ends in .html.")
        self._path = path
        self._delivery = Delivery([path], overwrite=overwrite)

    def write(self, found: Evaluation, title: str) -> None:
        """Write what was measured."""
        with explained(self._path):
            self._delivery.part(self._path).write_text(render(found, title), encoding="utf-8")
            self._delivery.publish()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self._delivery.discard()


def render(found: Evaluation, title: str) -> str:
    """Lay out a page; every name is escaped."""
    boards = [_board(board) for board in found.boards.values()]
    return render_page(
        "hybridfusion_core.evaluate",
        "page.html",
        title=printable(title),
        boards=boards,
        artefacts=found.artefact_table() if found.artefacts else None,
        broken=[printable(each) for each in found.broken],
    )


def _board(board: Scoreboard) -> dict[str, Any]:
    return {
        "name": printable(board.name),
        "stacks": len(board.stacks),
        "truth": board.truth,
        "means": board.means(),
        "gains": board.gains(),
        "curves": [curve for method in (NETWORK, TENENGRAD) if (curve := _curve(board, method))],
        "side": _SIDE,
        "looks": [_look(look) for look in board.looks],
    }


def _curve(board: Scoreboard, method: str) -> dict[str, Any] | None:
    """Points of a reliability diagram; a disc's area grows with the pixels behind it."""
    sure = board.reliability.get(method)
    if sure is None or not sure.count.any():
        return None
    share = np.sqrt(sure.count[sure.count > 0] / sure.count.max())
    points = [
        {"x": round(_SIDE * float(x), 1), "y": round(_SIDE * (1 - float(y)), 1), "r": round(2 + 5 * float(r), 1)}
        for x, y, r in zip(*sure.curve, share, strict=True)
    ]
    return {"method": method, "points": points, "error": f"{sure.expected_error:.3f}"}


def _look(look: Look) -> dict[str, Any]:
    return {
        "name": printable(look.name),
        "where": look.where,
        "crops": [inline(each) for each in look.crops],
        "maps": [inline(each) for each in look.maps],
    }
