"""Values of options, from the text that was typed."""

from __future__ import annotations

import argparse
import re

_SUFFIXES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def names(text: str) -> tuple[str, ...]:
    """Return the names between commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def camera(text: str) -> dict[str, float]:
    """Return a camera's gain, offset and read noise."""
    try:
        gain, offset, read_noise = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not GAIN,OFFSET,READNOISE, such as 0.46,100,1.6") from None
    return {"gain": gain, "offset": offset, "read_noise": read_noise}


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def byte_count(text: str) -> int:
    """Return a number of bytes, such as 4G."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, such as 500M or 4G")
    return int(float(match[1]) * _SUFFIXES[match[2].upper()])
