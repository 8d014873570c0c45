"""Other focus stackers as command lines, for `speed.py` to run beside ours: what is installed, how it is called.

Every rival gets the slices as uncompressed TIFF files and writes one fused picture. Enfuse judges by contrast alone, as
its manual has it for focus stacks. focus-stack comes thrice: as it is; without alignment, which nobody else here does;
and without alignment but with its depth map, the only other product of ours that any of them has. It has no option that
leaves alignment out: those rows need a copy, given as `--focus-stack PATH`, in which `Task_Align::task` takes its first
branch (no alignment) when the environment variable FOCUS_STACK_NO_ALIGN is set.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ENFUSE = ("--exposure-weight=0", "--saturation-weight=0", "--contrast-weight=1", "--hard-mask")
_NO_ALIGN = "FOCUS_STACK_NO_ALIGN"


@dataclass(frozen=True)
class Rival:
    """A program that fuses slices into one picture.

    Attributes:
        name: in the table.
        program: path of its executable.
        words: after the executable; "{output}" and "{threads}" are replaced, slices follow.
        environment: variables to set.
    """

    name: str
    program: str
    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, slices: list[Path], output: Path, threads: int) -> list[str]:
        """Words of the whole command line."""
        words = [word.format(output=output, folder=output.parent, threads=threads) for word in self.words]
        return [self.program, *words, *map(str, slices)]


def installed(focus_stack: str = "focus-stack") -> tuple[Rival, ...]:
    """Rivals on this machine; `focus_stack` names its executable."""
    found = []
    if program := shutil.which(focus_stack):
        plain = ("--threads={threads}", "--no-opencl", "--align-keep-size", "--output={output}")
        found.append(Rival("focus-stack", program, plain))
        if _NO_ALIGN.encode() in Path(program).read_bytes():
            bare = {_NO_ALIGN: "1"}
            found.append(Rival("focus-stack, no alignment", program, plain, bare))
            with_map = (*plain, "--depthmap={folder}/depth.png")
            found.append(Rival("focus-stack, no alignment, depth map", program, with_map, bare))
    if program := shutil.which("enfuse"):
        found.append(Rival("enfuse", program, (*_ENFUSE, "--output={output}")))
    return tuple(found)
