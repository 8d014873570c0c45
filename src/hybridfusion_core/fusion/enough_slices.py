"""A stack of one slice has nothing to be fused: it is refused with what can be done about it."""

from __future__ import annotations

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.stack import Stack

_KINDS = {"T": "time points", "C": "channels"}


def refuse_single_slice(stack: Stack, chosen: int, purpose: str) -> None:
    """Refuse a stack of which one slice is to be fused, or none.

    Args:
        stack: as it was opened.
        chosen: how many of its slices are.
        purpose: what was to be done, such as "fuse".

    Raises:
        UserInputError: fewer than two slices are chosen.
    """
    if chosen > 1:
        return
    times, channels, slices = stack.shape[:3]
    if slices > 1:
        raise UserInputError(
            f"{stack.name} has {slices} slices, and {chosen} of them is chosen; expected two or more to {purpose}. "
            "Choose more with --z, or leave it out."
        )
    several = [letter for letter, count in (("T", times), ("C", channels)) if count > 1 and letter in stack.axes]
    if not several or stack.rgb:
        raise UserInputError(
            f"{stack.name} is a single slice; expected two or more to {purpose}. Name the whole stack: its file, the "
            "folder of its slices, or all of them."
        )
    first = several[0]
    axes = "".join({"Z": first, first: "Z"}.get(letter, letter) for letter in stack.axes)
    raise UserInputError(
        f"{stack.name} has one slice, and {stack.shape['TC'.index(first)]} {_KINDS[first]}; expected two slices or "
        f"more to {purpose}. If its {_KINDS[first]} are slices, say so with --axes {axes} (Python: axes=)."
    )
