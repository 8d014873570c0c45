"""The two ways in which a request can fail that are not our bug.

Each message has three parts: what was found, what was expected, what to do about it.
"""


class HybridFusionError(Exception):
    """A failure that is explained to the user without a traceback."""


class UserInputError(HybridFusionError, ValueError):
    """What was asked cannot be done with this input."""


class StoredDataError(HybridFusionError, ValueError):
    """What is on disk is not what it says it is."""
