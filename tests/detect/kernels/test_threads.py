"""Parts of a computation in threads side by side."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from etad.detect.kernels.threads import MANY_ROWS, even_parts, map_parallel, run_parallel


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_parts_run_at_the_same_time_and_results_keep_their_order() -> None:
    together = threading.Barrier(2)

    def run(number: int) -> tuple[int, int, bool]:
        together.wait(timeout=30)
        return number, torch.get_num_threads(), torch.is_grad_enabled()

    assert run_parallel(run, [7, 3]) == [(7, 1, False), (3, 1, False)]


def test_the_number_of_threads_is_left_as_it_was_for_threads_started_later() -> None:
    seen: list[int] = []
    run_parallel(lambda part: part, [0, 1])
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [2]


@pytest.mark.parametrize("short", [torch.bfloat16, torch.float16])
def test_a_thread_inherits_inference_mode_and_autocast(short: torch.dtype) -> None:
    def seen(_: int) -> tuple[bool, bool, torch.dtype]:
        return torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    with torch.inference_mode(), torch.autocast("cpu", short):
        assert run_parallel(seen, [0, 1]) == [(True, True, short)] * 2
    # The same threads again.
    assert [each[:2] for each in run_parallel(seen, [0, 1])] == [(False, False)] * 2


def test_threads_are_not_made_anew() -> None:
    def thread(_: int) -> threading.Thread:
        return threading.current_thread()

    threads = {each for _ in range(20) for each in run_parallel(thread, [0, 1])}
    assert len(threads) <= (os.cpu_count() or 1)
    assert all(each.is_alive() for each in threads)
    assert threading.current_thread() not in threads


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
        run_parallel(run, [0, 1])
    assert ended.is_set()


def test_an_error_leaves_nothing_alive() -> None:
    made: list[weakref.ref[torch.Tensor]] = []

    def run(number: int) -> torch.Tensor:
        own = torch.zeros(3)
        made.append(weakref.ref(own))
        if number == 0:
            raise ValueError("the first part")
        return own

    gc.disable()
    try:
        with pytest.raises(ValueError, match="the first part") as caught:
            run_parallel(run, [0, 1])
        del caught
        assert len(made) == 2
        assert not any(each() is not None for each in made)
    finally:
        gc.enable()


def test_a_thread_that_computes_alone_shares_nothing_further() -> None:
    def parts(_: int) -> list[range]:
        return even_parts(4, torch.device("cpu"))

    assert run_parallel(parts, [0, 1]) == [[range(4)]] * 2
    assert run_parallel(lambda _: run_parallel(lambda part: part, [1, 2]), [0, 1]) == [[1, 2]] * 2
    assert map_parallel(lambda item: map_parallel(lambda each: each + item, [10, 20]), [1, 2]) == [
        [11, 21],
        [12, 22],
    ]


@pytest.mark.parametrize(
    ("num_videos", "rows", "threads", "in_workers"),
    [(1, MANY_ROWS, 2, False), (2, MANY_ROWS, 1, True), (1, 5, 1, False), (3, 5, 1, False)],
)
def test_samplers_have_all_threads_one_each_or_one_alone(
    num_videos: int, rows: int, threads: int, in_workers: bool
) -> None:
    def seen(video: int) -> tuple[int, int, bool]:
        return video, torch.get_num_threads(), threading.current_thread() is not threading.main_thread()

    videos = list(range(num_videos))
    assert map_parallel(seen, videos, rows=rows) == [(video, threads, in_workers) for video in videos]
    assert torch.get_num_threads() == 2


def test_an_item_alone_has_one_thread() -> None:
    assert map_parallel(lambda _: torch.get_num_threads(), [0]) == [1]
    assert torch.get_num_threads() == 2


def _in_a_child(results: Any) -> None:
    torch.set_num_threads(2)
    results.put(run_parallel(lambda number: number + 1, [1, 2]))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    run_parallel(lambda number: number, [1, 2])
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_in_a_child, args=(results,), daemon=True)
    child.start()
    try:
        assert results.get(timeout=60) == [2, 3]
    finally:
        child.terminate()
        child.join()
