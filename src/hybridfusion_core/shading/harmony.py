"""Flat-field profiles that Harmony measured: polynomials in the index of an Opera Phenix or Operetta.

Written from what others found out about the format, since no real profile has been read yet. An `Entry` of the index,
or of the file in `FFC_Profile`, holds text such as

    {Background: {Character: NonFlat, Mean: 153.3, Profile: {Coefficients: [[1.0], [0.1, -0.1]], Dims: [1080, 1080],
    Origin: [539.5, 539.5], Scale: [0.0019, 0.0019], Type: Polynomial}}, Channel: 1, ChannelName: HOECHST 33342}

with a `Foreground` of the same form where the light on the specimen was measured. Coefficient j of degree i belongs to
x^(i − j) · y^j, x and y being (pixel − Origin) · Scale. Harmony's image is (counts − background) / foreground; a
background with a `Mean` is given in parts of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from defusedxml import DefusedXmlException, ElementTree
from numpy.typing import NDArray

from hybridfusion_core.errors import HybridFusionError, UserInputError, printable
from hybridfusion_core.io.disk.access import permitted

Part = Literal["Foreground", "Background"]
Plane = NDArray[np.float32]

_LONGEST = 1 << 20  # characters of one profile
_DEEPEST = 8  # braces in braces
_HIGHEST = 16  # degree of a polynomial
_LARGEST_PLANE = 1 << 28  # pixels
_LARGEST_FILE = 4 << 30  # bytes; an index of a million planes has half of one
_OPTION = {"Foreground": "--flat-field", "Background": "--dark"}


@dataclass(frozen=True)
class Profile:
    """What Harmony says of one channel.

    Attributes:
        number: of the channel.
        name: of the channel, "" if it does not say.
        parts: "Foreground" and "Background" as they are written.
    """

    number: int
    name: str
    parts: dict[str, Any]


def read_surfaces(path: str, part: Part, channels: Sequence[str]) -> NDArray[np.float32]:
    """Return a profile of each channel.

    Args:
        path: of an index, or of the file in `FFC_Profile`.
        part: "Foreground" is how evenly the specimen is lit, "Background" what has to be taken off, in counts.
        channels: their names, in the order of the stack.

    Returns:
        C Y X.

    Raises:
        UserInputError: it holds no such profile for a channel, or something that cannot be understood.
    """
    found = list(_profiles(path, part))
    surfaces = [
        _surface(_of_channel(found, index, name, path, part), part, path) for index, name in enumerate(channels)
    ]
    if len({each.shape for each in surfaces}) > 1:
        raise _unfit(path, part, "profiles of several sizes", "one size for all channels")
    return np.stack(surfaces)


def _profiles(path: str, part: Part) -> Iterator[Profile]:
    try:
        with permitted(Path(path)):
            if Path(path).stat().st_size > _LARGEST_FILE:
                raise _unfit(path, part, "more bytes than any index", "an index of a plate")
            number = 0
            for _, element in ElementTree.iterparse(path, events=("end",), forbid_dtd=True):
                kind = element.tag.rpartition("}")[2]
                if kind == "Entry":
                    texts = [each.text or "" for each in element if each.tag.rpartition("}")[2] == "FlatfieldProfile"]
                    for text in texts:
                        number += 1
                        yield _profile(text, element.get("ChannelID", ""), number)
                if kind in ("Entry", "Image"):
                    element.clear()
    except HybridFusionError:
        raise
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError, TypeError, OSError) as error:
        raise _unfit(
            path, part, f"no profile that can be read ({printable(str(error))})", "the index of a Harmony plate"
        ) from error


def _profile(text: str, channel: str, number: int) -> Profile:
    if len(text) > _LONGEST:
        raise ValueError("a profile of more than a million characters")
    found, _ = _value(text.strip(), 0, 0)
    if not isinstance(found, dict):
        raise ValueError("a profile that begins otherwise than with {")
    own = str(found.get("Channel", channel) or number)
    return Profile(int(float(own)), str(found.get("ChannelName", "")), found)


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    """Read one value, and say where it ends: {Key: value, …}, [value, …], a number, or words without quotes."""
    if depth > _DEEPEST:
        raise ValueError("braces within braces without end")
    at = _skipped(text, at)
    if text[at : at + 1] not in ("{", "["):
        if text[at : at + 1] == '"':
            end = text.index('"', at + 1)
            return text[at + 1 : end], end + 1
        end = min((found for mark in ",}]" if (found := text.find(mark, at)) >= 0), default=len(text))
        return _plain(text[at:end].strip()), end
    close, made = {"{": "}", "[": "]"}[text[at]], list[Any]()
    keys: list[str] = []
    at = _skipped(text, at + 1)
    while text[at : at + 1] != close:
        if close == "}":
            colon = text.index(":", at)
            keys.append(text[at:colon].strip().strip('"'))
            at = colon + 1
        value, at = _value(text, at, depth + 1)
        made.append(value)
        at = _skipped(text, at)
        if text[at : at + 1] not in (",", close) or not text[at : at + 1]:
            raise ValueError("a brace that is not closed")
        at = _skipped(text, at + (text[at] == ","))
    return (dict(zip(keys, made, strict=True)) if close == "}" else made), at + 1


def _skipped(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _plain(word: str) -> Any:
    try:
        return float(word)
    except ValueError:
        return word


def _of_channel(found: Sequence[Profile], index: int, name: str, path: str, part: Part) -> Profile:
    """Return the profile of a channel: by its name, or by its place where profiles bear no names."""
    named = [each for each in found if each.name == name]
    if len(named) == 1:
        return named[0]
    ordered = sorted(found, key=lambda each: each.number)
    if not any(each.name for each in found) and index < len(ordered):
        return ordered[index]
    said = ", ".join(repr(printable(each.name)) for each in found) or "none"
    raise _unfit(path, part, f"profiles of the channels {said}", f"one, and one only, for {name!r}")


def _surface(profile: Profile, part: Part, path: str) -> Plane:
    about = profile.parts.get(part)
    shape = about.get("Profile") if isinstance(about, dict) else None
    if not isinstance(about, dict) or not isinstance(shape, dict) or shape.get("Type") != "Polynomial":
        other = "Background" if part == "Foreground" else "Foreground"
        has = other in profile.parts and isinstance(profile.parts[other], dict)
        raise _unfit(
            path,
            part,
            f"no polynomial of the {part.lower()} for channel {profile.number}",
            f"one; it has one of the {other.lower()}, which goes to {_OPTION[other]}" if has else "one",
        )
    try:
        columns, rows = (int(each) for each in shape["Dims"])
        (x0, y0), (wide, high) = shape["Origin"], shape["Scale"]
        degrees = [[float(each) for each in row] for row in shape["Coefficients"]]
        mean = float(about.get("Mean", 1.0)) if part == "Background" else 1.0
        numbers = np.array([x0, y0, wide, high, mean, *(each for row in degrees for each in row)], np.float64)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise _unfit(path, part, f"a polynomial without {printable(str(error))}", "its numbers") from error
    sound = rows > 0 < columns and rows * columns <= _LARGEST_PLANE and len(degrees) <= _HIGHEST
    if not sound or not np.isfinite(numbers).all() or any(len(row) > i + 1 for i, row in enumerate(degrees)):
        raise _unfit(
            path, part, "a polynomial with impossible numbers", "its coefficients by degree, and finite numbers"
        )
    x, y = (np.arange(columns) - x0) * wide, ((np.arange(rows) - y0) * high)[:, np.newaxis]
    made = np.zeros((rows, columns), np.float64)
    for degree, row in enumerate(degrees):
        for power, coefficient in enumerate(row):
            made += coefficient * x ** (degree - power) * y**power
    return np.asarray(made * mean, np.float32)


def _unfit(path: str, part: Part, found: str, expected: str) -> UserInputError:
    return UserInputError(
        f"{_OPTION[part]} {Path(path).name!r} has {found}; expected {expected}. Choose the index that Harmony exported "
        "with flat-field profiles, or give a picture."
    )
