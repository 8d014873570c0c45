"""Write the tables of docs/quality.md anew, from unseen synthetic scenes.

    python benchmarks/quality.py docs/quality.md
    python benchmarks/quality.py docs/quality.md --model runs/natural/natural.safetensors --kind photographic

What lies between the two marks of the page is replaced, with the models' sha256; the text around it stays.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hybridfusion_core.evaluate.methods import CLASSICAL, NEAREST, NETWORK, TENENGRAD
from hybridfusion_core.evaluate.run import evaluate_methods
from hybridfusion_core.evaluate.scores import FIGURES
from hybridfusion_core.evaluate.tables import Evaluation, Scoreboard, Table
from hybridfusion_core.model.model_file import load_model, model_names
from hybridfusion_core.scenes.scene import KINDS

BEGIN, END = "<!-- tables: python benchmarks/quality.py -->", "<!-- end of tables -->"
FIGURE = {figure.key: figure for figure in FIGURES}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("page", type=Path)
    options.add_argument("--model", default="auto")
    options.add_argument("--scenes", type=int, default=24, help="stacks per kind and noise")
    options.add_argument("--kind", action="append", choices=KINDS, help="default: all")
    options.add_argument("--device", default="cpu")
    chosen = options.parse_args()
    text = chosen.page.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        sys.exit(f"{chosen.page} has no marks; expected {BEGIN} and {END}. Put them where the tables belong.")
    measured = evaluate_methods(
        chosen.model,
        scenes=chosen.scenes,
        kinds=chosen.kind or KINDS,
        device=chosen.device,
        report=lambda done, total: print(f"{done} of {total}", file=sys.stderr),
    )
    tables = "\n\n".join(parts(measured, chosen.model, chosen.scenes))
    chosen.page.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


def parts(measured: Evaluation, name: str, scenes: int) -> Iterator[str]:
    models = [load_model(each) for each in (model_names() if name == "auto" else (name,))]
    named = ", ".join(f"`{model.card.name}` (sha256 `{model.sha256[:12]}…`)" for model in models)
    yield (
        f"`--model auto` with {named}" if name == "auto" else f"Model {named}"
    ) + f"; {scenes} unseen stacks per kind and noise, `--select soft` unless said otherwise."
    boards = measured.boards.values()
    yield (
        "**Sharpness, dB.** PSNR and its differences: mean [95 % interval] over the stacks with detail; those without "
        "any (empty fields) stand in the last column alone."
    )
    head = (
        "scenes",
        "stacks",
        "network",
        "− Tenengrad σ 4",
        "− best classical (hindsight)",
        "worst tenth of that",
        "boundary band − best classical",
        "− nearest true slice",
        "without detail − best classical",
    )
    yield Table(head, tuple(sharpness(board) for board in boards)).as_markdown()
    yield "**Height, mean absolute error in slices, and confidence.**"
    head = (
        "scenes",
        "height",
        "of the best classical (hindsight)",
        "of Tenengrad σ 4",
        "where weak",
        "of Tenengrad σ 4",
        "calibration error",
        "AUROC of mistakes",
        "in focus and missed",
        "…, of the rule",
        "in focus and invented",
        "…, of the rule",
    )
    yield Table(head, tuple(depth(board) for board in boards)).as_markdown()
    yield "**Specimens made for artefacts.**"
    yield measured.artefact_table().as_markdown()


def sharpness(board: Scoreboard) -> tuple[str, ...]:
    return (
        board.name,
        str(int(np.isfinite(board.figures[NETWORK]["psnr"]).sum())),
        mean(board, NETWORK, "psnr"),
        gain(board, TENENGRAD, "psnr"),
        gain(board, CLASSICAL, "psnr"),
        worst(board, CLASSICAL, "psnr"),
        gain(board, CLASSICAL, "psnr_boundary"),
        gain(board, NEAREST, "psnr"),
        gain(board, CLASSICAL, "psnr_bare"),
    )


def depth(board: Scoreboard) -> tuple[str, ...]:
    sure = board.reliability.get(NETWORK)
    return (
        board.name,
        *(mean(board, method, "height") for method in (NETWORK, CLASSICAL, TENENGRAD)),
        *(mean(board, method, "height_weak") for method in (NETWORK, TENENGRAD)),
        "–" if sure is None or np.isnan(sure.expected_error) else f"{sure.expected_error:.3f}",
        mean(board, NETWORK, "auroc"),
        *(mean(board, method, key) for key in ("missed", "invented") for method in (NETWORK, TENENGRAD)),
    )


def mean(board: Scoreboard, method: str, key: str) -> str:
    values = board.figures[method][key]
    known = values[np.isfinite(values)]
    return f"{known.mean():.{FIGURE[key].digits}f}" if known.size else "–"


def gain(board: Scoreboard, theirs: str, key: str) -> str:
    found = board.gain(NETWORK, theirs, FIGURE[key])
    if found is None:
        return "–"
    interval = f" [{found.low:+.2f}, {found.high:+.2f}]" if np.isfinite(found.low) else ""
    return f"{found.mean:+.2f}{interval}".replace("-", "−")


def worst(board: Scoreboard, theirs: str, key: str) -> str:
    found = board.gain(NETWORK, theirs, FIGURE[key])
    return "–" if found is None else f"{found.worst:+.2f}".replace("-", "−")


if __name__ == "__main__":
    main()
