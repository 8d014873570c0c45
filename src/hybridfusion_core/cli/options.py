"""Options that several commands share, and how their values are read. Imports nothing heavy."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Any, get_args

from hybridfusion_core.errors import UserInputError
from hybridfusion_core.fusion.request import camera_fields
from hybridfusion_core.model.devices import AUTO, DEVICE_KINDS

_SUFFIXES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


EXIT_STATUS = (
    "exit status: 0 done; 1 a bug of this program, with its traceback; 2 the request or its input is wrong;\n"
    "3 a batch is finished and some fields failed; 130 interrupted, with nothing left half-written"
)


def command(commands: Any, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    """Add a command, with an example under its help."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n{example}\n\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one machine-readable summary on stdout")
    return parser


def add_choice(group: Any, name: str, choices: Any, default: str, meaning: str) -> None:
    """Add an option that takes one of several words.

    Args:
        group: of options.
        name: of the option.
        choices: a `Literal`, or a table by word.
        default: one of them.
        meaning: help, without the default.
    """
    words = tuple(choices) if isinstance(choices, Mapping) else get_args(choices)
    group.add_argument(name, choices=words, default=default, help=f"{meaning} (default: {default})")


def add_model(group: Any) -> None:
    """Add the choice of a model."""
    group.add_argument(
        "--model",
        default="auto",
        metavar="NAME",
        help="auto (transmitted for transmitted light, natural for colour and for pairs that do not fluoresce, else "
        "fluorescence; each channel that decides gets its own), a name that `models` lists, or a path (default: auto)",
    )


def add_device(group: Any) -> None:
    """Add where tensors live."""
    group.add_argument(
        "--device",
        default=AUTO,
        help="; ".join(f"{name}: {kind.tip}" for name, kind in DEVICE_KINDS.items())
        + f" (default: {AUTO}, the first of them that this machine has)",
    )


def add_memory(group: Any) -> None:
    """Add what may be used of the machine."""
    group.add_argument(
        "--memory", type=byte_count, metavar="BYTES", help="budget, such as 4G (default: a third of what is free)"
    )
    group.add_argument("--threads", type=positive, metavar="N", help="of PyTorch on the CPU")


def add_file_facts(parser: argparse.ArgumentParser) -> None:
    """Add what a file may not say."""
    facts = parser.add_argument_group("What the file does not say")
    facts.add_argument("--axes", metavar="LETTERS", help="what each axis is, some of TCZYX, such as ZCYX")
    facts.add_argument("--series", metavar="N|NAME", help="which image of a file that holds several")
    add_absent(facts)
    add_scale(facts)


def add_absent(group: Any) -> None:
    """Add what an OME-Zarr means by chunks that are not there."""
    group.add_argument(
        "--absent",
        choices=("refuse", "fill"),
        default="refuse",
        help="what to do about slices of which an OME-Zarr has no chunk: refuse, or read its fill value, as programs "
        "mean it that leave out black slices (default: refuse)",
    )


def add_scale(group: Any) -> None:
    """Add distances that a file may not say."""
    group.add_argument("--z-step", type=float, metavar="UM", help="distance between slices in µm")
    group.add_argument("--pixel-size", type=float, metavar="UM", help="side of a pixel in µm")


def names(text: str) -> tuple[str, ...]:
    """Read names between commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def camera(text: str) -> dict[str, float]:
    """Read the noise of a camera."""
    try:
        return camera_fields(text)
    except UserInputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def byte_count(text: str) -> int:
    """Read a number of bytes, such as 4G."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, such as 500M or 4G")
    return int(float(match[1]) * _SUFFIXES[match[2].upper()])
