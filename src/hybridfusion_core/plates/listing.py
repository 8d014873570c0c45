"""The files of a plate's folder: found by walking it, never by believing a name that metadata give.

What an index names is looked up among what was found here. So no index can name a file outside the folder, and a link
that leads out of it is refused before anything reads it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.access import permitted
from hybridfusion_core.io.suffixes import IMAGE_FILES, ZARR_SUFFIXES, belongs_to_file

_DEEPEST = 8  # folders below the plate; a loop of mounts would not end
# Small copies and assemblies that microscopes, network drives and viewers leave beside the planes.
_ASIDE_FOLDERS = re.compile(
    r"thumb(nail)?s?|.*_thumbs?|montages?|experiment_montage|stitched|projections?|@eadir", re.I
)
_ASIDE_FILES = re.compile(
    r".*_thumb(?:[0-9a-f]{8}-|_?\[).*|(?:thumb(?:nail)?|montage)[._-].*|.*[._-](?:thumb(?:nail)?|montage|stitched)\.\w+",
    re.I,
)


@dataclass(frozen=True)
class Listing:
    """All that lies in a folder.

    Attributes:
        root: the folder.
        images: paths of image files inside it, with "/", sorted.
        others: paths of all other files.
        aside: paths of thumbnails, montages and corrections, which are no planes.
        refused: why a path is not read, by path: links that lead out of the folder, pipes and devices.
    """

    root: Path
    images: frozenset[str]
    others: frozenset[str]
    aside: tuple[str, ...]
    refused: dict[str, str]
    _by_name: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)

    def find(self, named: str, beside: str = "") -> str | None:
        r"""Look up a file that metadata name.

        Args:
            named: a path as the metadata write it, with "/" or "\"; it may lack folders or have another image suffix.
            beside: folder inside this one that the metadata lie in.

        Returns:
            A path of `images` or `refused`, or None if there is none of that name, or several.
        """
        path = named.replace("\\", "/")
        for candidate in (f"{beside}/{path}" if beside else path, path):
            if candidate in self.images or candidate in self.refused:
                return candidate
        name = path.rpartition("/")[2].lower()
        found = self._names().get(name) or self._names().get(_stem(name)) or []
        return found[0] if len(found) == 1 else None

    def folder_of(self, file: Path) -> str:
        """Return the folder of a file as a path inside this one, "" if it lies here or elsewhere."""
        parent = file.parent
        # Not ".": what is found there is called by its name alone.
        return parent.relative_to(self.root).as_posix() if self.root in parent.parents else ""

    def _names(self) -> dict[str, list[str]]:
        if not self._by_name:
            for path in (*self.images, *self.refused):
                name = path.rpartition("/")[2].lower()
                for key in {name, _stem(name)}:
                    self._by_name.setdefault(key, []).append(path)
        return self._by_name


def list_folder(root: Path) -> Listing:
    """Walk a folder; nothing but names is read.

    Raises:
        UserInputError: a folder may not be listed.
    """
    inside = Path(os.path.realpath(root))
    images, others, aside, refused = set(), set(), [], {}
    for path, entry in _walk(root, ""):
        name = entry.name
        if not name.lower().endswith(IMAGE_FILES):
            if entry.is_file(follow_symlinks=False):
                others.add(path)
        elif _ASIDE_FILES.fullmatch(name) or any(_ASIDE_FOLDERS.fullmatch(each) for each in path.split("/")[:-1]):
            aside.append(path)
        elif (reason := _refusal(entry, inside)) is not None:
            refused[path] = reason
        else:
            images.add(path)
    return Listing(root, frozenset(images), frozenset(others), tuple(sorted(aside)), refused)


def _walk(folder: Path, prefix: str, depth: int = 0) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with permitted(folder), os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith("."):
            continue
        # Folders behind links are not entered: they may lead out of the plate, or round in a circle.
        if not entry.is_dir(follow_symlinks=False):
            yield f"{prefix}{entry.name}", entry
        elif not (entry.name.lower().endswith(ZARR_SUFFIXES) or belongs_to_file(entry.name)):
            if depth == _DEEPEST:
                raise UserInputError(
                    f"{folder} has folders inside folders, more than {_DEEPEST} deep; expected the folder of one "
                    "plate. Name the folder of the plate itself."
                )
            yield from _walk(folder / entry.name, f"{prefix}{entry.name}/", depth + 1)


def _refusal(entry: os.DirEntry[str], inside: Path) -> str | None:
    """Say why an entry is not read, or nothing."""
    if entry.is_symlink():
        if not Path(os.path.realpath(entry.path)).is_relative_to(inside):
            return "is a link that leads out of the folder of the plate"
        return None if entry.is_file() else "is a link that leads to no file"
    return None if entry.is_file(follow_symlinks=False) else "is a pipe, a socket or a device"


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name
