"""`hybridfusion batch`: plan it, then show what it would do, run it, or bring its reports up to date."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybridfusion_core.batch.api import BatchPlan, plan_batch
from hybridfusion_core.cli.batch_dry_run import dry_run
from hybridfusion_core.cli.batch_run import run
from hybridfusion_core.errors import HybridFusionError, UserInputError, printable
from hybridfusion_core.plates.summary import plate_warnings

_PLANNED = (
    *("pattern", "axes", "missing", "absent", "wells", "fields", "times", "pilot", "only", "shard", "stats", "stitch"),
    *("format", "ngff", "name"),
)


def command(options: argparse.Namespace, request: Mapping[str, Any]) -> int:
    """Do what was asked for; with --json, an error is an event as well.

    Args:
        options: of the command.
        request: those of them that say how to fuse.

    Returns:
        The exit status.
    """
    try:
        plan = _plan(options, request)
        if options.dry_run:
            about, text = dry_run(plan)
            print(json.dumps(about, ensure_ascii=False) if options.json else text)
            return 0
        return run(plan, options)
    except HybridFusionError as error:
        if options.json:
            print(json.dumps({"event": "error", "status": 2, "message": str(error)}), flush=True)
        raise


def _plan(options: argparse.Namespace, request: Mapping[str, Any]) -> BatchPlan:
    if options.finish and options.shard is not None:
        raise UserInputError(
            "--finish and --shard were given together; expected one of them: --finish comes after the last shard. "
            "Leave one out."
        )
    plan = plan_batch(
        options.input,
        options.output,
        z_step_um=options.z_step,
        pixel_size_um=options.pixel_size,
        **{name: getattr(options, name) for name in _PLANNED},
        **request,
    )
    if options.finish and not plan.choices.paths.run_record.is_file():
        raise UserInputError(
            f"{Path(options.output)} was begun by no batch; expected the output of shards that have run. "
            "Run them first."
        )
    for warning in (*plate_warnings(plan.plate), *plan.notes):
        print(f"hybridfusion: warning: {printable(warning)}", file=sys.stderr)
    return plan
