"""What can be typed after `hybridfusion assess`. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from hybridfusion_core.cli.options import add_device, add_file_facts, add_memory, add_model, command
from hybridfusion_core.fusion.request import FuseRequest


def add_assess(commands: Any) -> None:
    """Add the command."""
    parser = command(
        commands,
        "assess",
        "say whether fusing is right for a stack, a plate or a result, by figures measured on it",
        "  hybridfusion assess organoid.ome.tif\n"
        "  hybridfusion assess organoid.ome.tif -o organoid_assessment/page.html\n"
        "  hybridfusion assess organoid_fused.ome.zarr --stack raw/organoid.ome.tif --json",
    )
    parser.add_argument("input", nargs="+", metavar="INPUT", help="a stack as for fuse, a plate, or a result of fuse")
    parser.add_argument("--stack", metavar="STACK", help="what a result was made of (default: looked for beside it)")
    parser.add_argument(
        "--focus-from", default=FuseRequest.focus_from, metavar="WHO", help="who decides, as for fuse (default: auto)"
    )
    parser.add_argument("--z", metavar="START:STOP[:STEP]", help="slices to use, counted from 0 (default: all)")
    add_model(parser)
    output = parser.add_argument_group("Output")
    output.add_argument(
        "-o", "--output", metavar="PAGE.html", help="also write a page with pictures, and assessment.json beside it"
    )
    output.add_argument("--checksum", action="store_true", help="hash the input also if it is larger than 1 GiB")
    output.add_argument("--overwrite", action="store_true", help="replace the page and assessment.json")
    add_file_facts(parser)
    machine = parser.add_argument_group("Hardware")
    add_device(machine)
    add_memory(machine)
