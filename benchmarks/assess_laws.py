"""Whether `assess` names what is wrong with a stack, and says nothing of a sound one.

    python benchmarks/assess_laws.py                       # 200 sound stacks and 40 of each fault: about half an hour
    python benchmarks/assess_laws.py --sound 20 --faults 4

Stacks are drawn by `scenes.faulty_stacks`. The thresholds of `assess` were chosen on seeds below 100000; figures are
reported on seeds from there on. Prints rows for docs/assess.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sound", type=int, default=200)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--first", type=int, default=100_000, help="seed of the first stack")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warned, others = 0, Counter[str]()
    for number in range(options.sound):
        kinds = kinds_of(draw_stack(options.first + number, Drawn(transmitted=number % 5 == 4)))
        warned += bool(kinds)
        if kinds or not (number + 1) % 20:
            print(f"  {number + 1}: {warned} warned of; this one: {kinds}", file=sys.stderr, flush=True)
        others.update(kinds)
    print(f"| sound | warned of {warned} of {options.sound} | {dict(others)} |", flush=True)
    for name, (kind, what) in FAULTS.items():
        named, others = 0, Counter[str]()
        for number in range(options.faults):
            kinds = kinds_of(draw_stack(options.first + number, what))
            named += kind in kinds
            others.update(each for each in kinds if each != kind)
        print(f"| {name} | `{kind}` named in {named} of {options.faults} | also {dict(others)} |", flush=True)


if __name__ == "__main__":
    main()
