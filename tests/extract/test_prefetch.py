import random
import threading
import time
from collections.abc import Iterator

import pytest

from etad.extract.prefetch import in_order

PATIENCE_SECONDS = 20


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_come_in_order_whatever_takes_long(workers: int) -> None:
    drawn = random.Random(0)

    def part(job: int, number: int, items: int) -> Iterator[tuple[int, int, int]]:
        for item in range(items):
            time.sleep(drawn.random() * 0.002)
            yield job, number, item

    def parts_of(job: int) -> list[Iterator[tuple[int, int, int]]]:
        time.sleep(drawn.random() * 0.002)
        return [part(job, number, items) for number, items in enumerate(sizes[job])]

    sizes = [[drawn.randrange(4) for _ in range(drawn.randrange(3))] for _ in range(60)]
    expected = [
        (job, number, item)
        for job, parts in enumerate(sizes)
        for number, items in enumerate(parts)
        for item in range(items)
    ]
    jobs = ((job,) for job in range(len(sizes)))
    assert list(in_order(parts_of, jobs, workers=workers, ahead=1)) == expected


def test_threads_go_on_to_the_next_part_while_the_caller_is_at_work() -> None:
    reached = {job: threading.Event() for job in range(3)}

    def part(job: int) -> Iterator[int]:
        reached[job].set()
        yield job

    items = in_order(lambda job: [part(job)], ((job,) for job in reached), workers=1, ahead=1)
    assert next(items) == 0
    assert reached[1].wait(PATIENCE_SECONDS), "the thread waited for its caller to come back"
    assert list(items) == [1, 2]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("where", ["splitting", "part"])
def test_an_error_is_raised_in_its_place(workers: int, where: str) -> None:
    def part(job: int) -> Iterator[int]:
        if job == 2 and where == "part":
            raise ValueError("second job")
        yield job

    def parts_of(job: int) -> list[Iterator[int]]:
        if job == 2 and where == "splitting":
            raise ValueError("second job")
        return [part(job)]

    items = in_order(parts_of, ((job,) for job in range(5)), workers=workers, ahead=2)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="second job"):
        next(items)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_jobs_without_parts_end_nothing(workers: int) -> None:
    def parts_of(job: int) -> list[Iterator[int]]:
        return [iter([job])] if job % 7 == 6 else []

    for _ in range(20):
        jobs = ((job,) for job in range(21))
        assert list(in_order(parts_of, jobs, workers=workers, ahead=1)) == [6, 13, 20]
    assert list(in_order(parts_of, ((0,) for _ in range(9)), workers=workers, ahead=1)) == []


def test_no_more_is_done_ahead_than_is_asked_for() -> None:
    made: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            made.append(1)
            yield 1

    items = in_order(lambda: [endless()], [()], workers=1, ahead=2)
    next(items)
    time.sleep(0.3)
    assert len(made) <= 4  # one taken, two waiting, one to be put
    items.close()  # type: ignore[attr-defined]


def test_a_caller_that_leaves_stops_the_threads() -> None:
    closed = threading.Event()

    class Endless:
        def __iter__(self) -> Iterator[int]:
            return self  # type: ignore[return-value]

        def __next__(self) -> int:
            return 1

        def close(self) -> None:
            closed.set()

    items = in_order(lambda: [Endless()], [()], workers=1, ahead=2)  # type: ignore[list-item]
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
