"""Names from metadata, and how the same files are spelt on the disk."""

from __future__ import annotations

import unicodedata
from pathlib import Path


def on_disk(name: str, folder: Path) -> str | None:
    """Return how a file that metadata name is called in a folder, or None.

    A name may be written in two ways that look alike: "ä" as one character or as "a" and two dots, as a Mac copies
    it; and not every system tells capitals apart.
    """
    if (folder / name).is_file():
        return name

    def alike(one: str) -> str:
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", one).casefold())

    found = [each.name for each in folder.iterdir() if alike(each.name) == alike(name) and each.is_file()]
    return found[0] if len(found) == 1 else None
