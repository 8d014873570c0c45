"""What is kept of a fine-tuning, where the quality of any weights is known."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from hybridfusion_core.train.finetune import keeping
from hybridfusion_core.train.finetune.keeping import kept, on_the_line

CPU = torch.device("cpu")


class Point(torch.nn.Module):
    """Weights of one number."""

    def __init__(self, place: float) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.tensor(place))


@dataclass(frozen=True)
class Scene:
    """Stands for a batch: whose it is, and its luck."""

    own: bool
    luck: torch.Tensor


def keep(monkeypatch: pytest.MonkeyPatch, own: object, familiar: object, noise: float = 0.01) -> keeping.Kept:
    """Tune from 0 to 1, where `own` and `familiar` give decibels at a place on the line."""
    lessons = SimpleNamespace(own="own", lab=None, familiar="familiar")

    def draw(recipe: str, step: int, *_: object) -> Scene:
        return Scene(recipe == "own", torch.randn(4, generator=torch.Generator().manual_seed(step)))

    def decibels(network: Point, scene: Scene) -> torch.Tensor:
        place = float(network.place.detach())
        # Luck is of a scene and of the weights: of the start alone it would be the same for all.
        return (own if scene.own else familiar)(place) + noise * scene.luck * place

    monkeypatch.setattr(keeping, "draw_batch", draw)
    monkeypatch.setattr(keeping, "decibels", decibels)
    return kept(Point(0.0), Point(1.0), lessons, CPU)


def test_what_is_better_all_the_way_is_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    end = keep(monkeypatch, lambda place: 2 * place, lambda _: 0.0)
    assert end.share == float(end.network.place.detach()) == 1
    assert end.gain == pytest.approx(2, abs=0.01)


def test_what_is_worse_is_not_kept_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    end = keep(monkeypatch, lambda place: -place, lambda _: 0.0)
    assert end.share == float(end.network.place.detach()) == 0


def test_who_went_too_far_is_taken_back_half_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    end = keep(monkeypatch, lambda place: place * (1 - place), lambda _: 0.0)
    assert end.share == 0.5


def test_what_is_forgotten_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep(monkeypatch, lambda place: place, lambda place: -0.4 * place).share == 1
    assert keep(monkeypatch, lambda place: place, lambda place: -0.6 * place).share == 0


def test_a_gain_that_may_be_luck_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keep(monkeypatch, lambda place: 0.1 * place, lambda _: 0.0, noise=0.01).share == 1
    assert keep(monkeypatch, lambda place: 0.01 * place, lambda _: 0.0, noise=1.0).share == 0


def test_the_line_is_straight_and_leaves_both_ends_alone() -> None:
    start, tuned = Point(1.0), Point(3.0)
    assert float(on_the_line(start, tuned, 0.25).place.detach()) == 1.5
    assert (float(start.place.detach()), float(tuned.place.detach())) == (1, 3)
