"""What a form is remembered by from one session to the next: a small file beside napari's own settings.

Where napari remembers nothing, as in its tests, nothing is remembered here either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari.settings import get_settings

_FILE = "hybridfusion.json"
_MOST = 100_000  # bytes; a file that is larger is none of ours


def recalled(form: str) -> Mapping[str, Any]:
    """Return what was chosen last time in a form, by field; empty if nothing is known."""
    return _all().get(form, {})


def remember(form: str, values: Mapping[str, Any]) -> None:
    """Write down what is chosen in a form; where the folder cannot be written, only this is lost."""
    path = _path()
    if path is None:
        return
    try:
        path.write_text(json.dumps({**_all(), form: dict(values)}, indent=1), encoding="utf-8")
    except OSError:
        return


def _all() -> dict[str, dict[str, Any]]:
    path = _path()
    try:
        if path is None or path.stat().st_size > _MOST:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}


def _path() -> Path | None:
    known = get_settings().config_path
    return None if known is None or not Path(known).parent.is_dir() else Path(known).with_name(_FILE)
