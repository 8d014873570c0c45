"""Names of files as a user describes them: '{row}{column}_f{field}_z{z}_c{channel}.tif', or an expression.

An expression may need longer than the universe lasts for one name, so matching has a time limit.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import regex

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.plates.layouts.named_planes import Groups

_PATIENCE = 30.0  # s for all names together; 100 000 take a second
_LONGEST = 1000  # characters of a pattern
_ALIASES = {"col": "column", "f": "field", "c": "channel", "t": "time", "s": "field", "w": "channel"}
_PARTS = {
    "plate": r"[^/]+",
    "well": r"[A-Za-z]{1,2}\d{1,3}(?:\.[ab][12])?",
    "row": r"[A-Za-z]{1,2}|\d{1,2}",
    "column": r"\d{1,3}",
    "field": r"\d{1,9}",
    "time": r"\d{1,9}",
    "z": r"\d{1,9}",
    "channel": r"[A-Za-z0-9 +-]+",  # without "_" and ".": thumbnails must not look like channels
}
_ANY_WELL = r"[A-Za-z0-9+-]+"  # where no part of the names is called as wells are
_NUMBERS = ("time", "z")


@dataclass(frozen=True)
class UserPattern:
    """A pattern that was checked.

    Attributes:
        text: as typed.
        expressions: whose groups have the names of `_PARTS`; the first one that fits any file counts.
    """

    text: str
    expressions: tuple[str, ...]

    @property
    def groups(self) -> frozenset[str]:
        """Names of what it tells."""
        return frozenset(regex.compile(self.expressions[0]).groupindex)

    def match(self, paths: Sequence[str]) -> dict[str, Groups]:
        """Take names apart.

        Args:
            paths: inside the folder of the plate; compared whole if the pattern has a "/" in it, else by name.

        Returns:
            The groups of every path that fits.

        Raises:
            UserInputError: the expression takes too long.
        """
        whole = "/" in self.text
        names = {path: path if whole else path.rpartition("/")[2] for path in paths}
        different = sorted(set(names.values()))
        fits: Mapping[str, Groups] = {}
        for expression in self.expressions:
            fits = fits or self._fits(expression, different)
        return {path: fits[name] for path, name in names.items() if name in fits}

    def _fits(self, expression: str, names: Sequence[str]) -> dict[str, Groups]:
        compiled, found = regex.compile(expression), {}
        until = time.monotonic() + _PATIENCE
        try:
            for name in names:
                match = compiled.fullmatch(name, timeout=max(1e-3, until - time.monotonic()))
                if match is not None:
                    found[name] = match.groupdict()
        except TimeoutError as error:
            raise _refusal(
                self.text,
                f"has not come to an end after {_PATIENCE:g} s",
                "fewer '*', and no repetition inside a repetition, as in (a+)+",
            ) from error
        return found


def parse_pattern(text: str) -> UserPattern:
    """Understand a pattern.

    Args:
        text: a template with {row} and {column}, or {well}, and as far as the names have them {field}, {time}, {z},
            {channel} and {plate}; "*" stands for anything but "/". {well} is a name such as B02, or else any number or
            name. Or a regular expression with groups of these names.

    Raises:
        UserInputError: it is neither, or does not say which well.
    """
    if len(text) > _LONGEST:
        raise _refusal(text[:40] + "…", f"has {len(text)} characters", f"at most {_LONGEST}")
    if "(?P<" in text:
        expressions = [_renamed(text)]
    else:
        expressions = [_from_template(text, parts) for parts in (_PARTS, {**_PARTS, "well": _ANY_WELL})]
    try:
        groups = set(regex.compile(expressions[0]).groupindex)
    except (regex.error, OverflowError, RecursionError) as error:
        raise _refusal(text, f"is no regular expression ({error})", "one with named groups, or a template") from error
    if not ("well" in groups or {"row", "column"} <= groups):
        raise _refusal(text, f"tells {', '.join(sorted(groups)) or 'nothing'}", "{row} and {column}, or {well}")
    return UserPattern(text, tuple(dict.fromkeys(expressions)))


def check_groups(pattern: UserPattern, found: dict[str, Groups]) -> None:
    """Check that what a user's expression calls a number is one.

    Raises:
        UserInputError: it is not.
    """
    for path, groups in found.items():
        for name in _NUMBERS:
            value = groups.get(name)
            if value is not None and not (value.isascii() and value.isdecimal() and len(value) <= 9):
                raise _refusal(pattern.text, f"finds {value!r} as {name} in {path!r}", "a whole number")


def _renamed(expression: str) -> str:
    r"""Give groups that have a short name the long one; other parts of an expression stay as they are."""
    return re.sub(
        r"\(\?P([<=])(\w+)([>)])",
        lambda group: f"(?P{group[1]}{_ALIASES.get(group[2].lower(), group[2].lower())}{group[3]}",
        expression,
    )


def _from_template(text: str, known: Mapping[str, str]) -> str:
    if re.search("[{}]", re.sub(r"\{\w+(?::[^{}]*)?\}", "", text)):
        raise _refusal(text, "has a brace without its partner", "names in braces, such as {field}")
    parts, seen = [], set()
    for literal, wild, name in re.findall(r"([^{}*]+)|(\*)|\{(\w+)(?::[^{}]*)?\}", text):
        if literal:
            parts.append(re.escape(literal))
        elif wild:
            parts.append("[^/]*")
        else:
            key = _ALIASES.get(name.lower(), name.lower())
            if key not in known or key in seen:
                problem = "names twice" if key in seen else "does not know"
                raise _refusal(text, f"{problem} {{{name}}}", f"each of {', '.join(known)} at most once")
            seen.add(key)
            parts.append(f"(?P<{key}>{known[key]})")
    return "".join(parts)


def _refusal(text: str, found: str, expected: str) -> UserInputError:
    return UserInputError(
        f"The pattern {text!r} {found}; expected {expected}. Say for example "
        "--pattern '{row}{column}_f{field}_z{z}_c{channel}.tif'."
    )
