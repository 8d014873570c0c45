"""Keep the program that started a batch out of its workers' processes.

Python runs the main script again in every process that it spawns, so that functions of the script are known there.
Workers need none of them. A script without a main guard would start itself once more in each worker, and open
another window if it has one.
"""

from __future__ import annotations

import functools
import multiprocessing.spawn
from typing import Any

_WORKERS = "Dask Worker process"  # what Dask calls them, also those that replace one that died
_MAIN = ("init_main_from_name", "init_main_from_path")


@functools.cache
def keep_main_out() -> None:
    """Let Dask's workers start without the main script, from now on; other processes are left as they were."""
    prepared = multiprocessing.spawn.get_preparation_data

    def without_main(name: str) -> dict[str, Any]:
        data = prepared(name)
        return {key: value for key, value in data.items() if not (name.startswith(_WORKERS) and key in _MAIN)}

    multiprocessing.spawn.get_preparation_data = without_main
