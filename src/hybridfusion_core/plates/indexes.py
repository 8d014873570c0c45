"""Files that describe a plate: known by name or by what they contain, read or said to be unread."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.layouts.table import LAYOUTS, Layout
from hybridfusion_core.plates.listing import Listing

_HEAD = 1 << 16  # bytes of a file that are looked at
_MOST_READ = 50  # files that are looked into; a plate has a handful
_TEXT_SUFFIXES = (".xml", ".csv", ".mlf", ".htd", ".xdce", ".jdce", ".json", ".mes", ".txt")
_NAMED = re.compile(r"(?:.*[^a-z])?index(?:[^a-z].*)?\.(?:xml|csv|json)", re.I)


def index_of(listing: Listing, kind: Layout, given: Path | None, *, fits: bool) -> Path | None:
    """Return the file that describes a plate of some layout.

    Args:
        listing: of the folder.
        kind: the layout.
        given: what the user named, or None.
        fits: names of images fit the layout.

    Returns:
        The file that was given, or is in the folder, or in the folder above; None if there is none for this layout.

    Raises:
        UserInputError: there are several.
    """
    if given is not None:
        return given if _describes(given.name, kind) or _contains(given, kind) else None
    if kind.shared and not fits:
        return None
    found = sorted((path for path in listing.others if _describes(path, kind)), key=lambda path: _rank(path, kind))
    if not found:
        texts = sorted(path for path in listing.others if path.lower().endswith(_TEXT_SUFFIXES))
        found = [path for path in texts[:_MOST_READ] if _contains(listing.root / path, kind)]
    if found:
        return listing.root / _only(listing, found, kind)
    return next(_above(listing.root, kind), None) if kind.above and fits else None


def unread_indexes(listing: Listing, read: Sequence[str]) -> Iterator[str]:
    """Say which files beside the planes look like an index and were not read.

    Args:
        listing: of the folder.
        read: files that were read.
    """
    known = {Path(each).name for each in read}
    stems = {path.rpartition("/")[2] for path in sorted(listing.images)[:_MOST_READ]}
    texts = [path for path in sorted(listing.others) if path.lower().endswith(_TEXT_SUFFIXES)]
    for path in texts[:_MOST_READ]:
        name = path.rpartition("/")[2]
        if name in known or any(_describes(path, kind) for kind in LAYOUTS if known and kind.metadata):
            continue
        if _NAMED.fullmatch(name) or (not known and any(stem in _head(listing.root / path) for stem in stems)):
            yield (
                f"{path!r} looks like an index of the images and was not read: what it says of channels, pixel sizes "
                "and positions is not in the result."
            )


def _only(listing: Listing, found: Sequence[str], kind: Layout) -> str:
    alike = [path for path in found if _rank(path, kind)[:2] == _rank(found[0], kind)[:2]]
    folders = {path: path.rpartition("/")[0].lower() for path in alike}
    alike = [path for path in alike if not folders[path].endswith("_montage")] or alike
    stacks = [path for path in alike if folders[path].endswith("_z_stack")]
    if len(stacks) == 1:  # MetaXpress Acquire keeps the projections of the same run beside the stacks
        return stacks[0]
    # Some versions of MetaXpress repeat the description in the folder of every time point.
    if len({re.sub(r"(?:TimePoint|ZStep)_\d+/", "", path) for path in alike}) > 1:
        raise UserInputError(
            f"{listing.root.name} holds {len(alike)} plates, described by {', '.join(alike[:3])}"
            f"{', …' if len(alike) > 3 else ''}; expected one. Name the folder or the index of one of them."
        )
    return alike[0]


def _describes(path: str, kind: Layout) -> bool:
    name = path.rpartition("/")[2].lower()
    return any(name.endswith(each) if each.startswith(".") else name == each for each in kind.metadata)


def _contains(path: Path, kind: Layout) -> bool:
    """Say whether a file of any name begins as the index of a layout does."""
    return kind.root is not None and path.suffix.lower() == ".xml" and f"<{kind.root}" in _head(path)


def _head(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD).decode("utf-8", "replace")
    except OSError:
        return ""


def _rank(path: str, kind: Layout) -> tuple[int, int, str]:
    """Order indexes: the fewest folders first, then as the table lists them."""
    name = path.rpartition("/")[2].lower()
    order = [name.endswith(each) for each in kind.metadata]
    return path.count("/"), order.index(True) if True in order else len(order), path


def _above(folder: Path, kind: Layout) -> Iterator[Path]:
    """Yield indexes in the folder above."""
    for each in sorted(folder.parent.iterdir()):
        if each.name.lower() in kind.metadata and each.is_file() and not each.is_symlink():
            yield each
