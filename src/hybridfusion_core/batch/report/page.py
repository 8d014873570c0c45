"""The page about a batch: maps of the plate, small pictures, failures, settings, and a paragraph to publish."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any
from urllib.parse import quote

import matplotlib as mpl
from jinja2 import Environment, PackageLoader, StrictUndefined

from hybridfusion_core.batch.figures.flags import (
    BIAS_ABOVE,
    DRIFT_ABOVE,
    EMPTY_BELOW,
    FLAGS,
    SATURATED_ABOVE,
    UNSURE_BELOW,
)
from hybridfusion_core.batch.records.paths import BatchPaths, key_of
from hybridfusion_core.batch.report.field_table import Row, told
from hybridfusion_core.errors import printable
from hybridfusion_core.fusion.methods import METHODS
from hybridfusion_core.plates.plate import Plate
from hybridfusion_core.plates.well_names import row_letters

_CELL = 18  # px of a well in a map
_SMALL_CELL = 10  # of more than 24 columns, so that maps stand side by side
_LEFT = 20  # px for the names of rows
_PICTURES = 1536  # in one page; more fields than that show the first one of each well
_LARGEST = 1 << 16  # bytes of a picture
_STATUS = {"done": "#4c9a5f", "failed": "#c0392b", "missing": "#c8c8c8", "partly": "#e0a030"}

Place = tuple[int, int]


def render(
    plate: Plate, paths: BatchPaths, rows: Sequence[Row], record: Mapping[str, Any], warnings: Sequence[str] = ()
) -> str:
    """Lay out the page; every name is escaped.

    Args:
        plate: all of it.
        paths: of the batch.
        rows: how every unit ended.
        record: of the run.
        warnings: what was left out, and which workers took no part.
    """
    # Names of wells, fields and files come from untrusted files: nothing is marked as safe.
    environment = Environment(
        loader=PackageLoader("hybridfusion_core.batch.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = Counter(row.status for row in rows)
    flagged = [row for row in rows if row.figures.flags or row.figures.assess]
    return environment.get_template("page.html").render(
        title=printable(plate.name),
        counts=counts,
        warnings=[printable(each) for each in warnings],
        maps=list(_maps(plate, rows)),
        cell=_CELL if plate.columns <= 24 else _SMALL_CELL,
        left=_LEFT,
        failures=[_named(row) | {"reason": printable(row.reason)} for row in rows if row.status == "failed"],
        flagged=[
            _named(row) | {"flags": ", ".join(row.figures.flags), "assess": told(row.figures.assess)} for row in flagged
        ],
        flag_counts={flag: sum(flag in row.figures.flags for row in flagged) for flag in FLAGS},
        limits={
            "empty": EMPTY_BELOW,
            "unsure": UNSURE_BELOW,
            "saturated": SATURATED_ABOVE,
            "drift": DRIFT_ABOVE,
            "bias": BIAS_ABOVE,
        },
        pictures=_pictures(paths, rows),
        settings=_settings(record),
        methods=_methods(rows, record),
    )


def _maps(plate: Plate, rows: Sequence[Row]) -> Any:
    """Yield one map for each figure, all of the same wells."""
    at = {well.name: (well.row_index, well.column_index) for well in plate.wells}
    wells: dict[Place, list[Row]] = {}
    for row in rows:
        wells.setdefault(at[row.unit.well], []).append(row)
    names = {(well.row_index, well.column_index): well.name for well in plate.wells}
    axes = {
        "columns": range(1, plate.columns + 1),
        "rows": [row_letters(index) for index in range(plate.rows)],
    }
    status = {place: _status(group) for place, group in wells.items()}
    yield axes | {
        "title": "status",
        "legend": [(color, name) for name, color in _STATUS.items()],
        "cells": [_cell(place, names, _STATUS[found], found) for place, found in status.items()],
    }
    figures: dict[str, Callable[[Row], float | None]] = {
        "median confidence": lambda row: row.figures.median_confidence,
        "height range": lambda row: row.figures.height and row.figures.height[1] - row.figures.height[0],
        "drift taken back (px)": lambda row: row.figures.drift_taken_px,
        "seconds": lambda row: row.seconds,
    }
    for title, figure in figures.items():
        values = {
            place: [value for row in group if (value := figure(row)) is not None] for place, group in wells.items()
        }
        known = {place: median(found) for place, found in values.items() if found}
        if known:
            yield axes | _colored(title, known, names)


def _colored(title: str, known: Mapping[Place, float], names: Mapping[Place, str]) -> dict[str, Any]:
    low, high = min(known.values()), max(known.values())
    colors = mpl.colormaps["viridis"]

    def color(value: float) -> str:
        return str(mpl.colors.to_hex(colors((value - low) / (high - low) if high > low else 0.5)))

    return {
        "title": title,
        "legend": [(color(value), f"{value:.3g}") for value in dict.fromkeys((low, (low + high) / 2, high))],
        "cells": [_cell(place, names, color(value), f"{value:.3g}") for place, value in known.items()],
    }


def _cell(place: Place, names: Mapping[Place, str], color: str, text: str) -> dict[str, Any]:
    row, column = place
    return {"y": row, "x": column, "color": color, "title": f"{printable(names[place])}: {text}"}


def _status(rows: Sequence[Row]) -> str:
    found = {row.status for row in rows}
    return found.pop() if len(found) == 1 else "partly"


def _named(row: Row) -> dict[str, Any]:
    return {"well": printable(row.unit.well), "field": printable(row.unit.field), "time": row.unit.t}


def _pictures(paths: BatchPaths, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return small pictures of the first time point of each field, with links to the image."""
    chosen = [row for row in rows if row.status == "done" and row.unit.t == 0]
    if len(chosen) > _PICTURES:
        chosen = list({row.unit.well: row for row in reversed(chosen)}.values())[::-1][:_PICTURES]
    pictures = []
    for row in chosen:
        key = key_of(row.unit)
        path = paths.thumbnail(key, row.unit.t)
        content = path.read_bytes() if path.is_file() and path.stat().st_size <= _LARGEST else b""
        encoded = base64.b64encode(content).decode("ascii")
        flags = f" ({', '.join(row.figures.flags)})" if row.figures.flags else ""
        pictures.append(
            {
                "source": f"data:image/jpeg;base64,{encoded}",
                "caption": printable(f"{row.unit.well} {row.unit.field}{flags}"),
                "flagged": bool(flags),
                "link": f"../{paths.output.name}/{quote(row.files[0]) if row.files else '/'.join(key)}",
            }
        )
    return pictures


def _settings(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    parts = {
        "asked for": record.get("request", {}),
        "resolved": record.get("settings", {}),
        "made by": {key: record.get(key, "") for key in ("software", "runtime")},
    }
    return [
        (f"{part}: {name}", value if isinstance(value, str) else json.dumps(value))
        for part, values in parts.items()
        for name, value in sorted(values.items())
        if value is not None
    ]


def _methods(rows: Sequence[Row], record: Mapping[str, Any]) -> str:
    """Return a paragraph for a publication."""
    asked, settled = record.get("request", {}), record.get("settings", {})
    if not settled:
        return ""
    done = [row for row in rows if row.status == "done"]
    depths = sorted({row.figures.slices for row in done if row.figures.slices is not None})
    slices = f" of {depths[0]}{f' to {depths[-1]}' if len(depths) > 1 else ''} slices" if depths else ""
    models = ", ".join(f"{name} (sha256 {sha256})" for name, sha256 in settled.get("models", {}).items())
    how = f"the network, model {models}" if models else f"the method {asked.get('method')!r}"
    statistics = {"well": "of each well", "field": "of each field"}.get(str(asked.get("stats")), "of the whole plate")
    fused = "a copy of one slice" if asked.get("select") == "hard" else "a weighted mean of the slices"
    decided = (
        f" Intensities were normalised with statistics {statistics} for the decision only; every pixel is {fused}."
    )
    method = METHODS.get(str(asked.get("method")))
    if method is not None and not method.decides:
        decided = ""
    digest = hashlib.sha256(json.dumps([asked, settled], sort_keys=True).encode()).hexdigest()
    return (
        f"{len(done)} focal stacks{slices} were fused into one plane each with "
        f"{record.get('software')} (algorithm version {asked.get('algorithm_version')}; {record.get('runtime')}), by "
        f"{how}, in {settled.get('precision')} on {settled.get('device')}, in tiles of {settled.get('tile')} px."
        f"{decided} {len(rows) - len(done)} focal stacks could "
        f"not be fused or were left out. All settings are listed in run.json (their sha256: {digest})."
    )
