from collections import Counter

import numpy as np

from hybridfusion_core.train.field_stream import FieldStream
from hybridfusion_core.train.patches import Field


def reader(value: int, read: list[int]):
    def field(generator: np.random.Generator) -> Field:
        read.append(value)
        return Field(np.full((2, 8, 8), value + generator.random(), np.float32), 0.1)

    return field


def stream(read: list[int] | None = None, **more: int) -> FieldStream:
    read = [] if read is None else read
    stacks = {"a": [reader(0, read)], "b": [reader(number, read) for number in range(10, 19)], "c": [reader(20, read)]}
    return FieldStream(stacks, **{"seed": 3, "hold": 4, "every": 5} | more)


def test_a_step_always_holds_the_same_fields_wherever_a_training_goes_on() -> None:
    straight = stream()
    for step in range(40):
        held = straight.at(step)
        resumed = stream().at(step)
        assert [each.name for each in held] == [each.name for each in resumed]
        assert all(np.array_equal(a.fields[0].guide, b.fields[0].guide) for a, b in zip(held, resumed, strict=True))
    assert not np.array_equal(stream(seed=4).at(0)[0].fields[0].guide, stream().at(0)[0].fields[0].guide)


def test_a_bounded_number_is_held_and_one_is_read_at_a_time() -> None:
    read: list[int] = []
    fields = stream(read)
    for step in range(50):
        assert len(fields.at(step)) == len(fields._held) == 4
        assert len(read) == 4 + step // 5


def test_stacks_come_equally_often_whatever_their_number_of_fields() -> None:
    fields = stream(hold=1, every=1)
    names = Counter(fields.at(step)[0].name for step in range(90))
    assert names == {"a": 30, "b": 30, "c": 30}


def test_a_field_that_comes_again_is_drawn_anew() -> None:
    fields = stream(hold=1, every=1)
    drawn = {float(held.fields[0].guide[0, 0, 0]) for step in range(30) for held in fields.at(step) if held.name == "a"}
    assert len(drawn) == 10
