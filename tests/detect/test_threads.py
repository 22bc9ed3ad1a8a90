"""Parts of a computation in threads side by side."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from etad.detect.threads import even_parts, one_thread_each, side_by_side


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_parts_run_at_the_same_time_and_results_keep_their_order() -> None:
    together = threading.Barrier(2)

    def run(number: int) -> tuple[int, int, bool]:
        together.wait(timeout=30)
        return number, torch.get_num_threads(), torch.is_grad_enabled()

    assert side_by_side(run, [7, 3]) == [(7, 1, False), (3, 1, False)]
    assert torch.get_num_threads() == 2


def test_a_thread_inherits_inference_mode_and_autocast() -> None:
    def seen(_: int) -> tuple[bool, bool]:
        return torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert side_by_side(seen, [0, 1]) == [(True, True)] * 2
    # The same threads again.
    assert side_by_side(seen, [0, 1]) == [(False, False)] * 2


def test_threads_are_not_made_anew() -> None:
    def name(_: int) -> str:
        return threading.current_thread().name

    names = {each for _ in range(20) for each in side_by_side(name, [0, 1])}
    assert len(names) <= 2, names
    assert threading.current_thread().name not in names


def test_no_part_runs_on_after_another_failed() -> None:
    failed, ended = threading.Event(), threading.Event()

    def run(number: int) -> None:
        if number == 0:
            failed.set()
            raise ValueError("the first part")
        assert failed.wait(timeout=30)
        # Longer than it takes the other's error to reach the caller.
        threading.Event().wait(0.2)
        ended.set()

    with pytest.raises(ValueError, match="the first part"):
        side_by_side(run, [0, 1])
    assert ended.is_set()
    assert torch.get_num_threads() == 2


def test_a_thread_that_computes_alone_shares_nothing_further() -> None:
    def parts(_: int) -> list[range]:
        return even_parts(4, torch.device("cpu"))

    assert side_by_side(parts, [0, 1]) == [[range(4)]] * 2
    assert one_thread_each(lambda item: one_thread_each(lambda each: each + item, [10, 20]), [1, 2]) == [
        [11, 21],
        [12, 22],
    ]


def _in_a_child(results: Any) -> None:
    torch.set_num_threads(2)
    results.put(side_by_side(lambda number: number + 1, [1, 2]))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    side_by_side(lambda number: number, [1, 2])
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_in_a_child, args=(results,), daemon=True)
    child.start()
    try:
        assert results.get(timeout=60) == [2, 3]
    finally:
        child.terminate()
        child.join()
