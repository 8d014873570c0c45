"""What can be typed to get, make and hand on models of one's own. Imports nothing heavy."""

from __future__ import annotations

import argparse
from typing import Any

from hybridfusion_core.cli.options import command


def add_models(commands: Any) -> None:
    """Add `models` and what it can do."""
    parser = command(
        commands,
        "models",
        "list the models and what they are for, or take in a file",
        "  hybridfusion models\n  hybridfusion models import my.safetensors --name our-spinning-disk",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action")
    _action(actions, "list", "list shipped and local models with their cards (the default)")
    importing = _action(
        actions, "import", "copy a model file into your own folder of models, so that --model NAME finds it"
    )
    importing.add_argument("file", metavar="FILE", help="a .safetensors file that this program wrote")
    importing.add_argument("--name", metavar="NAME", help="what to call it (default: the file's name)")
    importing.add_argument("--overwrite", action="store_true", help="replace a local model of that name")


def _action(actions: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=f"{summary}.")
    # Not a default of its own, which would take back what was said before the action.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser
