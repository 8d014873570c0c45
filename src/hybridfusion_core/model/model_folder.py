"""Where a user's own models lie: one folder, one file each. Names and paths; `checkpoint` knows what is inside."""

from __future__ import annotations

import os
import re
from pathlib import Path

from platformdirs import user_data_path

from hybridfusion_core.errors import UserInputError

VARIABLE = "HYBRIDFUSION_MODELS"  # of the environment: another folder
SUFFIX = ".safetensors"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def models_folder() -> Path:
    """Return the folder of local models; it may not exist yet."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen) if chosen else user_data_path("napari-hybridfusion", appauthor=False) / "models"


def local_names(taken: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Names of the local models.

    Args:
        taken: names that files in the folder can never claim, in lower case.
    """
    folder = models_folder()
    files = folder.iterdir() if folder.is_dir() else ()
    names = (file.name.removesuffix(SUFFIX) for file in files if file.name.endswith(SUFFIX) and file.is_file())
    return tuple(sorted(name for name in names if _NAME.fullmatch(name) and name.lower() not in taken))


def local_path(name: str, taken: tuple[str, ...] = ()) -> Path:
    """Return where a local model of a name lies, or would.

    Args:
        name: letters, digits, "_", "." and "-", at most 64, a letter or digit first.
        taken: names that belong to others, in lower case.

    Raises:
        UserInputError: the name is none for a model.
    """
    if not _NAME.fullmatch(name) or name.lower().endswith(SUFFIX):
        raise UserInputError(
            f"{name!r} is no name for a model; expected at most 64 letters, digits, '_', '.' and '-', a letter or "
            f"digit first, without {SUFFIX}. Choose another one with --name."
        )
    if name.lower() in taken:
        raise UserInputError(
            f"{name!r} is taken: {', '.join(taken)} have a meaning of their own, and a local model never stands in "
            "their place; expected another name. Choose one with --name."
        )
    return models_folder() / f"{name}{SUFFIX}"
