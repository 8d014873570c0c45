"""The command line: `hybridfusion`. What its exit status means, `options.EXIT_STATUS` says."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hybridfusion_core.cli.parser import build_parser
from hybridfusion_core.errors import HybridFusionError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = build_parser().parse_args(arguments)
    # Only now: `--help` answers before torch is imported.
    from hybridfusion_core.cli import commands

    command = getattr(commands, options.command)
    try:
        return command(options) or 0
    except HybridFusionError as error:
        print(f"hybridfusion: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hybridfusion: interrupted; nothing was left half-written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
