"""`hybridfusion verify` of what a batch wrote: whether it is whole, and how much of what was asked for is there."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hybridfusion_core.batch.output.verify import damaged_wells, inventory, verify_files
from hybridfusion_core.batch.records.failure_list import failures_csv
from hybridfusion_core.batch.records.paths import BatchPaths
from hybridfusion_core.batch.records.writing import written
from hybridfusion_core.errors import StoredDataError
from hybridfusion_core.io.disk.atomic import write_whole
from hybridfusion_core.io.verify import verify

UNFINISHED = 3  # exit status, as of `batch`


def verify_batch(paths: BatchPaths, options: argparse.Namespace) -> int:
    """Look through the output of a batch.

    Args:
        paths: of the batch.
        options: of the command.

    Returns:
        The exit status: 3 if something that was asked for is not there.

    Raises:
        StoredDataError: what is there is damaged.
    """
    whole = verify_files(paths.output) if paths.files else verify(paths.output) if paths.output.exists() else []
    whole = [*whole, *(what for _, what in damaged_wells(paths))]
    found = inventory(paths)
    if options.failures is not None:
        target = Path(options.failures)
        rows = [(each.well, each.field, each.time, each.reason) for each in found.unfinished]
        with written(target):
            write_whole(target, failures_csv(rows).encode("utf-8", "replace"))
    if options.json:
        about = {
            "output": options.output,
            "findings": whole,
            "asked": found.asked,
            "failed": len(found.failed),
            "waiting": len(found.waiting),
            "damaged": len(found.damaged),
        }
        print(json.dumps(about, ensure_ascii=False))
    if whole or found.damaged:
        raise StoredDataError(
            f"{options.output} is not what was written: {found.describe()}; expected a whole and consistent result. "
            "Run the batch again with --recheck. Found:",
            whole or [f"{each.well} field {each.field}: {each.reason}" for each in found.damaged],
        )
    if not options.json:
        print(f"{options.output}: {'incomplete' if found.unfinished else 'whole'}; {found.describe()}")
    return UNFINISHED if found.unfinished else 0
