"""Read large, untrusted XML files element by element: no DOCTYPE, no entities, memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from defusedxml import DefusedXmlException, ElementTree

from hybridfusion_core.errors import HybridFusionError, StoredDataError
from hybridfusion_core.io.disk.access import permitted

_LARGEST = 4 << 30  # bytes; an index of a million planes has half of one


def elements(path: Path, names: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """Yield elements of some names as they end, then forget what is in them; the outermost one comes last, as "".

    Args:
        path: of the file.
        names: local names, without namespace, of elements that do not lie in one another.

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
            last = None
            # Only ends: asking for starts too takes half as long again.
            for _, last in ElementTree.iterparse(str(path), events=("end",), forbid_dtd=True):
                name = last.tag.rpartition("}")[2]
                if name in names:
                    yield name, last
                    last.clear()
            yield "", last
    except HybridFusionError:
        raise
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise StoredDataError(
            f"{path.name} is no plain, well-formed XML ({type(error).__name__}: {error}); expected the index of a "
            "plate without DOCTYPE and entities. It is damaged or was copied in part: copy or export it again."
        ) from error


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
