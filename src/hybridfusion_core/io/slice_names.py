"""What the names of slice images say: their order, and whether they are slices of one stack at all.

A folder of single planes may hold several channels, positions or time points. Their names then differ in more than
one number, and which one counts the slices is not for this program to guess.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from math import prod
from pathlib import Path

from hybridfusion_core.io.suffixes import image_name

# 12, 0.25, 0,25, 1e-05; a sign is taken or not by `_Reading`.
_EXPONENT = r"(?:[eE][+-]\d+)?"
_WITH_FRACTION = re.compile(rf"\d+(?:[.,]\d+)?{_EXPONENT}")
_WHOLE = re.compile(r"\d+")
_MINUS = "-−"  # U+2212 too
_REPEATED = 1.5  # files to one value of the number that varies most, from which on one number does not tell them apart
_FEW = 0.34  # of the usual names, up to which others are odd ones
# What is made of a stack, and lies beside its slices.
_NO_SLICE = re.compile(
    r"(?<![a-z])(?:max|mip|min|avg|mean|sum|std|proj\w*|fused|edf|montage|thumb\w*|overview|preview)(?![a-z])", re.I
)
_Z_LABELS = ("z", "slice", "focus", "plane", "depth", "height", "pos", "zpos")


@dataclass(frozen=True)
class Doubt:
    """Why names do not say which images are the slices of one stack.

    Attributes:
        reason: the numbers or words that vary, with examples.
        example: a pattern of names that picks the slices of one stack, for a shell.
        certain: the numbers fill a grid; otherwise there may be one stack after all.
    """

    reason: str
    example: str
    certain: bool


def in_natural_order(paths: Sequence[Path]) -> list[Path]:
    """Sort by the numbers in the names: 2 before 10, -1 before 0, 0.25 before 0.5."""
    reading = _Reading.of([_stem(path) for path in paths])
    return sorted(paths, key=lambda path: (reading.key(_stem(path)), path.name))


def doubt(paths: Sequence[Path]) -> Doubt | None:
    """Say whether the names of images tell more than one stack, or None if they are the slices of one."""
    stems = [_stem(path) for path in paths]
    reading = _Reading.of(stems)
    tokens = [reading.tokens(stem) for stem in stems]
    skeletons = {each.skeleton for each in tokens}
    return _doubt_of_numbers(tokens, paths) if len(skeletons) == 1 else _doubt_of_words(tokens, paths)


def gap(paths: Sequence[Path]) -> str:
    """Say where a counter in the names of slices jumps, so that slices may be missing; "" where none does.

    Args:
        paths: slices of one stack, in natural order.
    """
    stems = [_stem(path) for path in paths]
    reading = _Reading.of(stems)
    tokens = [reading.tokens(stem) for stem in stems]
    if len({each.skeleton for each in tokens}) > 1:
        return ""
    jumps = [_jump(column) for column in _columns(tokens) if len(set(column)) == len(paths)]
    if not jumps or None in jumps:  # some number counts the files without a gap
        return ""
    at = jumps[0] or 0
    return (
        f"The numbers in the names jump from {paths[at].name} to {paths[at + 1].name}: slices may be missing between "
        "them, and the heights above are then too small. Copy them into the folder, if they were taken."
    )


def _jump(column: Sequence[float]) -> int | None:
    """Return behind which value a counter first leaves values out; None if it counts evenly, or is no counter."""
    steps = [after - before for before, after in pairwise(column)]
    usual = min(steps, default=0.0)
    odd = [index for index, step in enumerate(steps) if step != usual]
    whole = all(value.is_integer() for value in column) and usual > 0 and all(step % usual == 0 for step in steps)
    return odd[0] if odd and whole and len(odd) <= len(steps) / 2 else None


def _stem(path: Path) -> str:
    return image_name(path)


@dataclass(frozen=True)
class _Number:
    text: str
    value: float
    start: int
    stop: int


@dataclass(frozen=True)
class _Tokens:
    """One name: the text around its numbers, and the numbers."""

    name: str
    numbers: tuple[_Number, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        ends = [0, *(number.stop for number in self.numbers)]
        starts = [*(number.start for number in self.numbers), len(self.name)]
        return tuple(self.name[end:start].casefold() for end, start in zip(ends, starts, strict=True))

    @property
    def skeleton(self) -> str:
        return "\0".join(self.texts)


@dataclass(frozen=True)
class _Reading:
    """How numbers are written in a set of names.

    Attributes:
        fractions: a point or comma between digits belongs to the number.
        signs: a hyphen behind a letter is a sign; one behind a space, "_" or the like is one in any case where it is
            not in all names.
        leading_signs: a hyphen behind "_", a space, or at the start is a sign.
    """

    fractions: bool
    signs: bool
    leading_signs: bool

    @classmethod
    def of(cls, stems: Sequence[str]) -> _Reading:
        fractions = _are_fractions(stems)
        plain = cls(fractions, signs=False, leading_signs=False)
        bare = len({plain.tokens(stem).skeleton for stem in stems})
        # A hyphen that only some of the names have is no separator.
        leading = cls(fractions, signs=False, leading_signs=True)
        led = len({leading.tokens(stem).skeleton for stem in stems})
        all_signed = cls(fractions, signs=True, leading_signs=True)
        every = len({all_signed.tokens(stem).skeleton for stem in stems})
        if every < led:
            return all_signed
        positions = any(
            "." in number.text or "," in number.text for stem in stems for number in plain.tokens(stem).numbers
        )
        return leading if led < bare or positions else plain

    def tokens(self, stem: str) -> _Tokens:
        """Take a name apart."""
        numbers = []
        pattern = _WITH_FRACTION if self.fractions else _WHOLE
        for found in pattern.finditer(stem):
            start = found.start()
            before, ahead = stem[start - 1 : start], stem[start - 2 : start - 1] if start > 1 else ""
            signed = before in _MINUS or before == "+"
            if before and signed and self._is_sign(ahead):
                start -= 1
            value = float(found[0].replace(",", "."))
            numbers.append(
                _Number(
                    stem[start : found.end()],
                    -value if start < found.start() and before != "+" else value,
                    start,
                    found.end(),
                )
            )
        return _Tokens(stem, tuple(numbers))

    def _is_sign(self, ahead: str) -> bool:
        if ahead.isdigit():
            return False  # 2024-01-05
        return self.signs if ahead.isalpha() else self.leading_signs

    def key(self, stem: str) -> tuple[tuple[str, float], ...]:
        tokens = self.tokens(stem)
        values = [*(number.value for number in tokens.numbers), 0.0]
        return tuple(zip(tokens.texts, values, strict=True))


def _are_fractions(stems: Sequence[str]) -> bool:
    """Say whether points between digits are decimal points, not separators of counters as in 1.9, 1.10."""
    fractions = [found[1] for stem in stems for found in re.finditer(r"\d[.,](\d+)", stem)]
    widths = {len(each) for each in fractions}
    if len(widths) <= 1:
        return True  # of one width, both readings give the same order
    return not any(len(each) > 1 and each.endswith("0") for each in fractions)


def _doubt_of_numbers(tokens: Sequence[_Tokens], paths: Sequence[Path]) -> Doubt | None:
    """Names of one kind: does one number tell them apart?"""
    columns = _columns(tokens)
    counts = {index: len(set(column)) for index, column in enumerate(columns) if len(set(column)) > 1}
    if len(counts) < 2:
        return None
    files, most = len(paths), max(counts.values())
    grid = _grid(columns, counts, files)
    if grid:
        return _said(tokens, paths, grid, certain=True)
    if most < files:
        return _said(tokens, paths, list(counts), certain=files >= _REPEATED * most)
    # One number tells all apart. Others may go along with it, or be channels that were saved in turn.
    counter = next(index for index in counts if counts[index] == files)
    turns = [index for index in counts if _is_even(columns[index]) and _label(tokens[0], index)]
    return _said(tokens, paths, sorted([counter, turns[0]]), certain=True) if turns else None


def _columns(tokens: Sequence[_Tokens]) -> list[tuple[float, ...]]:
    """Return the values of each number of names that have as many."""
    return list(zip(*([number.value for number in each.numbers] for each in tokens), strict=True))


def _grid(columns: Sequence[Sequence[float]], counts: dict[int, int], files: int) -> list[int]:
    """Return numbers that together fill a whole grid: every combination stands for one file."""
    found: list[int] = []
    for index in sorted(counts, key=lambda each: counts[each], reverse=True):
        # A number that is different in every file may simply count the files.
        if counts[index] < files and not any(_go_together(columns[index], columns[other]) for other in found):
            found.append(index)
    combinations = set(zip(*(columns[index] for index in found), strict=True))
    whole = len(found) > 1 and prod(counts[index] for index in found) == files == len(combinations)
    return sorted(found) if whole else []


def _go_together(one: Sequence[float], other: Sequence[float]) -> bool:
    """Say whether each value of one number stands for one value of the other."""
    return len(set(zip(one, other, strict=True))) == len(set(one)) == len(set(other))


def _is_even(column: Sequence[float]) -> bool:
    times = {column.count(value) for value in set(column)}
    return len(times) == 1 and times.pop() > 1


def _doubt_of_words(tokens: Sequence[_Tokens], paths: Sequence[Path]) -> Doubt | None:
    """Names of several kinds, such as DAPI_z01 and GFP_z01: do the numbers come again?"""
    groups: dict[str, list[_Tokens]] = {}
    for each in tokens:
        groups.setdefault(each.skeleton, []).append(each)
    keys = []
    for group in groups.values():
        varying = _varying(group)
        keys += [tuple(each.numbers[index].value for index in varying) for each in group if varying]
    if len(groups) == len(tokens) or not keys:
        return None
    if len(keys) < _REPEATED * len(set(keys)):
        return _odd_ones(list(groups.values()), paths)
    examples = [min(group, key=lambda each: each.name).name for group in groups.values()]
    listed = ", ".join(repr(each) for each in examples[:3])
    largest = max(groups.values(), key=len)
    return Doubt(
        f"the names are of {len(groups)} kinds with the same numbers, such as {listed}",
        _pattern(largest[0], paths, _varying(largest)[0]),
        certain=True,
    )


def _odd_ones(groups: Sequence[Sequence[_Tokens]], paths: Sequence[Path]) -> Doubt | None:
    """Names of which a few are unlike all others, such as z0, z1, z2 and MAX: a projection is no slice."""
    usual = max(groups, key=len)
    others = sorted(each.name for group in groups if group is not usual for each in group)
    if not _varying(usual) or len(others) > _FEW * len(usual):
        return None
    shown = ", ".join(map(repr, others[:3])) + (", …" if len(others) > 3 else "")
    return Doubt(
        f"{len(others)} of the names are unlike the others: {shown}",
        _pattern(usual[0], paths, _varying(usual)[0]),
        certain=any(_NO_SLICE.search(name) for name in others),
    )


def _varying(tokens: Sequence[_Tokens]) -> list[int]:
    return [index for index, column in enumerate(_columns(tokens)) if len(set(column)) > 1]


def _said(tokens: Sequence[_Tokens], paths: Sequence[Path], columns: Sequence[int], *, certain: bool) -> Doubt:
    parts = []
    for index in columns:
        values = sorted({(each.numbers[index].value, each.numbers[index].text) for each in tokens})
        label = _label(tokens[0], index)
        texts = [text for _, text in values]
        span = ", ".join(texts) if len(texts) <= 3 else f"{texts[0]} to {texts[-1]}"
        parts.append(f"{label!r} ({span})" if label else f"number {index + 1} ({span})")
    slices = _slice_column(tokens, columns)
    return Doubt(
        f"{len(columns)} numbers vary in the names: {', '.join(parts)}", _pattern(tokens[0], paths, slices), certain
    )


def _label(tokens: _Tokens, index: int) -> str:
    """Return the word before a number, behind the number before it."""
    words = re.findall(r"[^\W\d_]+", tokens.texts[index])
    return words[-1] if words else ""


def _slice_column(tokens: Sequence[_Tokens], columns: Sequence[int]) -> int:
    """Return the number that counts slices by its name, else the one with most values."""
    named = [index for index in columns if _label(tokens[0], index).lower() in _Z_LABELS]
    counts = {index: len({each.numbers[index].value for each in tokens}) for index in columns}
    return (named or sorted(columns, key=lambda index: -counts[index]))[0]


def _pattern(tokens: _Tokens, paths: Sequence[Path], free: int) -> str:
    """Return a shell pattern for all files that differ from one in one number only."""
    path = next(path for path in paths if _stem(path) == tokens.name)
    number, ending = tokens.numbers[free], path.name[len(tokens.name) :]
    before, behind = tokens.name[: number.start], tokens.name[number.stop :] + ending
    alike = re.compile(f"{re.escape(before)}[{_MINUS}+]?[0-9.,]+{re.escape(behind)}", re.IGNORECASE)
    pattern = f"{before}*{behind}"
    met = [each.name for each in paths if fnmatchcase(each.name, pattern)]
    # A star may reach too far: z*.tif is z0_1.tif too.
    return pattern if all(alike.fullmatch(name) for name in met) else f"{before}{'?' * len(number.text)}{behind}"
