"""What `project` and `measure` do; they print nothing themselves."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from hybridfusion_core.io.create import refuse_input_as_output
from hybridfusion_core.progress import run_to_end
from hybridfusion_core.stack import Stack
from hybridfusion_core.surface.heights import open_heights
from hybridfusion_core.surface.labels_table import measure_labels, write_table
from hybridfusion_core.surface.mesh import write_mesh
from hybridfusion_core.surface.projection import resolved, steps_to_disk
from hybridfusion_core.surface.request import make_project_request


def project(options: argparse.Namespace, stack: Stack, report: Any) -> tuple[dict[str, Any], str]:
    """Project a stack to disk; returns the summary and its text."""
    request = make_project_request(
        offset_um=options.offset,
        thickness_um=options.thickness,
        how=options.how,
        by_channel=dict(options.channel),
        channels=options.channels,
        fill=options.fill,
        map=options.map,
        sheet=options.sheet,
        height_unit=options.height_unit,
        other_stack=options.other_stack,
    )
    started = time.monotonic()
    with open_heights(
        options.surface,
        stack,
        unit=request.height_unit,
        chosen=request.map,
        other_stack=request.other_stack,
        sheet=request.sheet,
    ) as heights:
        made = resolved(request, stack, heights)
        steps = steps_to_disk(
            made, stack, Path(options.output), options.overwrite, options.ngff, checksum=options.checksum
        )
        spec = run_to_end(steps, report)
    seconds = time.monotonic() - started
    t, c, y, x = spec.shape
    summary = {
        "output": options.output,
        "shape": [t, c, spec.depth, y, x],
        "dtype": spec.dtype.name,
        "seconds": round(seconds, 3),
        "settings": spec.provenance["settings"],
        "surface": spec.provenance["surface"],
    }
    depth = "" if spec.depth == 1 else f"{spec.depth} × "
    return summary, f"{options.output}: {t} × {c} × {depth}{y} × {x} {spec.dtype.name} in {seconds:.1f} s"


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Measure labels; returns the summary and its text."""
    output = Path(options.output)
    refuse_input_as_output(output, [options.input, options.labels])
    table = measure_labels(options.input, options.labels, sheet=options.sheet)
    write_table(output, table, overwrite=options.overwrite)
    summary: dict[str, Any] = {"output": options.output, "labels": len(table["label"]), "columns": list(table)}
    text = f"{options.output}: {len(table['label'])} labels"
    if options.mesh is not None:
        vertices, faces = write_mesh(
            options.input, Path(options.mesh), sheet=options.sheet or 1, overwrite=options.overwrite
        )
        summary |= {"mesh": options.mesh, "vertices": vertices, "faces": faces}
        text += f"\n{options.mesh}: {vertices} vertices, {faces} faces"
    return summary, text
