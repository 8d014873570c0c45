"""Read large XML files from strangers element by element: no DOCTYPE, no entities, memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from defusedxml import DefusedXmlException, ElementTree

from hybridfusion_core.errors import HybridFusionError, StoredDataError
from hybridfusion_core.store.access import permitted

_LARGEST = 4 << 30  # bytes; an index of a million planes has one


def elements(path: Path, names: frozenset[str], root: dict[str, str] | None = None) -> Iterator[tuple[str, Any]]:
    """Yield elements of some names as they end, then forget them.

    Args:
        path: of the file.
        names: local names, without namespace, of elements that do not lie in one another.
        root: takes the attributes of the outermost element, if it is given.

    Yields:
        Local name and element.

    Raises:
        UserInputError: it may not be read.
        StoredDataError: it is no well-formed XML, is absurdly large, or declares a document type or entities.
    """
    with permitted(path):
        size = path.stat().st_size
    if size > _LARGEST:
        raise StoredDataError(
            f"{path.name} has {size / 2**30:.1f} GiB; expected an index of less than {_LARGEST >> 30} GiB. It is "
            "damaged or something else under its name: export the plate again."
        )
    try:
        with permitted(path):
            yield from _elements(path, names, {} if root is None else root)
    except HybridFusionError:
        raise
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise StoredDataError(
            f"{path.name} is no plain, well-formed XML ({type(error).__name__}: {error}); expected the index of a "
            "plate without DOCTYPE and entities. It is damaged or was copied in part: copy or export it again."
        ) from error


def _elements(path: Path, names: frozenset[str], root: dict[str, str]) -> Iterator[tuple[str, Any]]:
    parents: list[Any] = []
    inside = 0
    for event, element in ElementTree.iterparse(str(path), events=("start", "end"), forbid_dtd=True):
        name = element.tag.rpartition("}")[2]
        if event == "start":
            if not parents:
                root.update(attributes(element))
            parents.append(element)
            inside += name in names
            continue
        parents.pop()
        if name in names:
            inside -= 1
            yield name, element
        if not inside and parents:
            parents[-1].clear()


def children(element: Any) -> dict[str, str]:
    """Return the texts of all elements directly inside, by local name; the first of each name counts."""
    found: dict[str, str] = {}
    for child in element:
        found.setdefault(child.tag.rpartition("}")[2], (child.text or "").strip())
    return found


def attributes(element: Any) -> dict[str, str]:
    """Return all attributes by local name."""
    return {key.rpartition("}")[2]: value for key, value in element.attrib.items()}


def whole(text: str | None, low: int = 0, high: int = 999_999_999) -> int | None:
    """Return a whole number within limits, or None for anything else."""
    if text is None or len(text) > 12 or not text.strip().isascii() or not text.strip().isdecimal():
        return None
    return number if low <= (number := int(text)) <= high else None
