"""The two ways in which a request can fail that are not our bug.

Each message has three parts: what was found, what was expected, what to do about it.
"""

from collections.abc import Sequence


def printable(text: str) -> str:
    """Escape what could break a line or steer a terminal: names of files and channels are not trusted."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class HybridFusionError(Exception):
    """A failure that is explained to the user without a traceback."""

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        """Make a message of one line, or of several.

        Args:
            message: what was found, what was expected, what to do about it.
            details: a line each under the message.
        """
        super().__init__("\n  ".join(printable(line) for line in (message, *details)))


class UserInputError(HybridFusionError, ValueError):
    """What was asked cannot be done with this input."""


class StoredDataError(HybridFusionError, ValueError):
    """What is on disk is not what it says it is."""
