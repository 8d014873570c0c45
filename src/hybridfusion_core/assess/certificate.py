"""The certificate: `assessment.json`, and a page of HTML with its pictures inside; both appear, or neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hybridfusion_core.assess.assessment import Assessment
from hybridfusion_core.assess.pictures import Curve
from hybridfusion_core.errors import UserInputError, printable
from hybridfusion_core.io.disk.atomic import Delivery, explained
from hybridfusion_core.view.page import inline, render_page

JSON_NAME = "assessment.json"
_SIDE = 240  # px of a diagram


class Certificate:
    """Two files that are claimed before anything is computed.

    Args:
        page: ends in .html; `assessment.json` lies beside it.
        overwrite: replace what is there.

    Raises:
        UserInputError: another suffix, or files that may not be written.
    """

    def __init__(self, page: Path, *, overwrite: bool) -> None:
        if page.suffix.lower() not in (".html", ".htm"):
            raise UserInputError(f"The page {page.name!r} has another suffix; expected a name that ends in .html.")
        self._page, self._json = page, page.with_name(JSON_NAME)
        self._delivery = Delivery([self._json, page], overwrite=overwrite)

    def write(self, found: list[Assessment], summary: dict[str, Any]) -> None:
        """Write what was found.

        Args:
            found: each on a section of the page.
            summary: what `assessment.json` holds.
        """
        with explained(self._page):
            self._delivery.part(self._page).write_text(render(found, summary), encoding="utf-8")
            text = json.dumps(summary, ensure_ascii=False, indent=1)
            self._delivery.part(self._json).write_text(text + "\n", encoding="utf-8")
            self._delivery.publish()

    def __enter__(self) -> Certificate:
        return self

    def __exit__(self, *_: object) -> None:
        self._delivery.discard()


def render(found: list[Assessment], summary: dict[str, Any]) -> str:
    """Lay out the page; every name is escaped."""
    return render_page(
        "hybridfusion_core.assess",
        "page.html",
        title=printable(str(summary["name"])),
        verdict=summary["verdict"],
        sentence=printable(summary["sentence"]),
        parts=[_part(each) for each in found],
        side=_SIDE,
    )


def _part(found: Assessment) -> dict[str, Any]:
    ties = found.ties
    models = ties["model"] if isinstance(ties["model"], list) else [ties["model"]] if ties["model"] else []
    hashes = [(printable(each["name"]), each.get("sha256", "not hashed")) for each in ties["input"]]
    hashes += [(f"model {printable(each['name'])}", each["sha256"]) for each in models]
    hashes += [("pixels that were looked at", ties["pixels_sha256"])]
    if ties["result"]:
        hashes += [(f"result {printable(ties['result']['name'])}", ties["result"]["sha256"])]
    return {
        "name": printable(found.name),
        "verdict": found.verdict,
        "sentence": printable(found.sentence),
        "warnings": [printable(each["message"]) for each in found.warnings],
        "figures": [
            (name.replace("_", " "), _shown(each), printable(each["should_be"]), printable(each["sentence"]))
            for name, each in found.figures.items()
        ],
        "pictures": [inline(each) for each in found.pictures],
        "curves": [_curve(each) for each in found.curves],
        "methods": printable(found.methods),
        "hashes": hashes,
        "software": ties["software"],
        "at": found.looked_at,
    }


def _shown(figure: dict[str, Any]) -> str:
    value = figure["value"]
    text = "not measured" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
    return printable(f"{text} {figure['unit']}".strip()) if value is not None else text


def _curve(curve: Curve) -> dict[str, Any]:
    points = [
        {
            "x": round(_SIDE * x, 1),
            "y": round(_SIDE * (1 - y), 1),
            "r": round(2 + 5 * weight**0.5, 1),
            "w": round(0.8 * _SIDE * weight, 1),
            "h": round(_SIDE * y, 1),
        }
        for x, y, weight in curve.points
    ]
    return {"title": curve.title, "across": curve.across, "points": points, "bars": curve.bars}
