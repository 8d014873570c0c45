"""Which image of a file with several was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hybridfusion_core.errors import UserInputError


def chosen_series(names: Sequence[str], shapes: Sequence[Any], series: str | int | None, name: str) -> int:
    """Return the index of the image that was asked for.

    Args:
        names: of all images; they may be empty or alike.
        shapes: of all images.
        series: index or name, or None where the file has one image only.
        name: of the file, for messages.

    Raises:
        UserInputError: there are several and none was chosen, no such image, or several of that name.
    """
    listing = ", ".join(
        f"{index} ({f'{found!r}, ' if found else ''}shape {tuple(shape)})"
        for index, (found, shape) in enumerate(zip(names[:20], shapes, strict=False))
    )
    listing += f", … {len(names) - 20} more" if len(names) > 20 else ""
    if series is None:
        if len(names) == 1:
            return 0
        raise UserInputError(
            f"{name} holds {len(names)} images: {listing}; expected one, or to be told which. "
            f"Choose one with --series N{' or --series NAME' if any(names) else ''} (Python: series=)."
        )
    alike = [index for index, each in enumerate(names) if each == series]
    if len(alike) == 1:
        return alike[0]
    if not alike and str(series).isdecimal() and int(series) < len(names):
        return int(series)
    found = f"has {len(alike)} images of the name" if alike else "has no image"
    raise UserInputError(
        f"{name} {found} {series!r}; expected one of: {listing}. Choose one of these with --series (series=)"
        f"{', by its number' if alike else ''}."
    )
