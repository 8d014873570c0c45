"""Whether `assess` names what is wrong with a stack, and says nothing of a sound one.

    python benchmarks/assess_laws.py                       # 200 sound stacks and 40 of each fault: about half an hour
    python benchmarks/assess_laws.py --sound 20 --faults 4
    python benchmarks/assess_laws.py --into laws.jsonl     # a line for each stack; run again, it resumes

Stacks are drawn by `scenes.faulty_stacks`. The thresholds of `assess` were chosen on seeds below 100000; figures are
reported on seeds from there on. Sound and faulty stacks take turns, so that a run that was stopped says something of
all of them. Prints rows for docs/assess.md.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch

from hybridfusion_core.assess.assessment import judge
from hybridfusion_core.assess.finding import Findings
from hybridfusion_core.assess.looked_at import LookedAt, look
from hybridfusion_core.fusion.job import resolve
from hybridfusion_core.fusion.request import make_request
from hybridfusion_core.scenes.faulty_stacks import FAULTS, Drawn, draw_stack
from hybridfusion_core.stack import Stack


def kinds_of(stack: Stack) -> list[str]:
    """Kinds of the warnings about a stack."""
    job = resolve(make_request(products=("fused", "decision", "confidence", "in_focus")), stack)
    found = Findings({}, [])
    for step in look(job, stack):
        if isinstance(step, LookedAt):
            judge(step, found)
    return [each.kind for each in found.warnings]


def turns(sound: int, faults: int) -> Iterator[tuple[str, int, Drawn]]:
    """Name, number and kind of each stack: five sound ones, then one of each fault, and again."""
    for turn in range(max(-(-sound // 5), faults)):
        for number in range(5 * turn, min(5 * turn + 5, sound)):
            yield "sound", number, Drawn(transmitted=number % 5 == 4)
        for name, (_, what) in FAULTS.items() if turn < faults else ():
            yield name, turn, what


def print_rows(found: dict[tuple[str, int], list[str]]) -> None:
    """Print how many stacks of each name were warned of, and of what else."""
    sound = [kinds for (name, _), kinds in found.items() if name == "sound"]
    print(f"| sound | warned of {sum(map(bool, sound))} of {len(sound)} | {dict(Counter(chain(*sound)))} |")
    for name, (kind, _) in FAULTS.items():
        warned = [kinds for (each, _), kinds in found.items() if each == name]
        others = Counter(each for each in chain(*warned) if each != kind)
        named = sum(kind in kinds for kinds in warned)
        print(f"| {name} | `{kind}` named in {named} of {len(warned)} | also {dict(others)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sound", type=int, default=200)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--first", type=int, default=100_000, help="seed of the first stack")
    parser.add_argument("--into", type=Path, help="keeps what was found, a line of JSON for each stack")
    parser.add_argument("--show", action="store_true", help="print what is in --into, and draw nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[tuple[str, int], list[str]] = {}
    if options.into and options.into.exists():
        for line in options.into.read_text().splitlines():
            name, number, kinds = json.loads(line)
            found[name, number] = kinds
    for name, number, what in () if options.show else turns(options.sound, options.faults):
        if (name, number) in found:
            continue
        kinds = found[name, number] = kinds_of(draw_stack(options.first + number, what))
        if options.into:
            with options.into.open("a") as file:
                file.write(json.dumps([name, number, kinds]) + "\n")
    print_rows(found)


if __name__ == "__main__":
    main()
