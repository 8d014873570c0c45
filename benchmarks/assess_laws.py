"""Whether `assess` names what is wrong with a stack, and says nothing of a sound one.

    python benchmarks/assess_laws.py                       # 200 sound stacks and 40 of each fault: about half an hour
    python benchmarks/assess_laws.py --sound 20 --faults 4

Stacks are drawn by `scenes.faulty_stacks`. The thresholds of `assess` were chosen on seeds below 100000; figures are
reported on seeds from there on. Prints rows for docs/assess.md.
"""

from __future__ import annotations

import argparse
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
    sound, faults = Tally("sound", ""), [(Tally(name, kind), what) for name, (kind, what) in FAULTS.items()]
    rounds = max(options.faults, 1)
    for number in range(rounds):  # all in turn: a run that is stopped has seen some of each
        for seed in range(number * options.sound // rounds, (number + 1) * options.sound // rounds):
            sound.add(kinds_of(draw_stack(options.first + seed, Drawn(transmitted=seed % 5 == 4))))
        for tally, what in faults[: len(faults) if options.faults else 0]:
            tally.add(kinds_of(draw_stack(options.first + number, what)))
        print(f"after {number + 1} of {rounds} rounds:", *[each.row() for each in (sound, *(t for t, _ in faults))],
              sep="\n", flush=True)  # fmt: skip


class Tally:
    """What was said of the stacks of one kind.

    Args:
        name: of the kind.
        kind: of the warning that is right; empty: none is.
    """

    def __init__(self, name: str, kind: str) -> None:
        self._name, self._kind = name, kind
        self._count = self._right = 0
        self._others = Counter[str]()

    def add(self, kinds: list[str]) -> None:
        """Count one stack by the warnings about it."""
        self._count += 1
        self._right += self._kind in kinds if self._kind else not kinds
        self._others.update(each for each in kinds if each != self._kind)

    def row(self) -> str:
        """Of the table in docs/assess.md."""
        others = ", ".join(f"`{kind}` {count}" for kind, count in self._others.most_common())
        if not self._kind:
            return f"| {self._name} | warned of {self._count - self._right} of {self._count} | {others} |"
        return f"| {self._name} | `{self._kind}` named in {self._right} of {self._count} | {others} |"


if __name__ == "__main__":
    main()
