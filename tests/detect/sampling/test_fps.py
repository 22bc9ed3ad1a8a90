from pathlib import Path

import numpy as np
import pytest
import torch

from etad.data.errors import EtadError
from etad.detect.sampling import fps
from etad.detect.sampling.fps import farthest_points, sample_fps
from reference import sampling as plain


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cloud(kind: str) -> torch.Tensor:
    """60 points: anywhere, on a coarse grid (many equal distances), all in one place, or far from the origin."""
    if kind == "equal":
        return torch.ones(60, 4)
    if kind == "grid":
        return torch.randint(0, 3, (60, 3), generator=generator()).float()
    spread = torch.randn(60, 5, generator=generator())
    return spread + 50 if kind == "far" else spread


@pytest.mark.parametrize("num_rivals", [1, 4, 30, 512])
@pytest.mark.parametrize("kind", ["anywhere", "grid", "equal", "far"])
def test_picks_equal_the_plain_ones(monkeypatch: pytest.MonkeyPatch, kind: str, num_rivals: int) -> None:
    monkeypatch.setattr(fps, "NUM_RIVALS", num_rivals)
    points = cloud(kind)
    expected = plain.fps(points.double().numpy(), 45, start=7)
    assert farthest_points(points, 45, start=7).tolist() == expected


def test_picks_equal_the_recorded_ones(shared: Path) -> None:
    golden = torch.load(shared / "goldens" / "fps_small.pt", weights_only=True)
    picks = farthest_points(golden["X"], golden["k"], start=golden["start"])
    assert picks.tolist() == list(golden["fps"])


def test_all_points_are_picked_once() -> None:
    for kind in ("anywhere", "grid", "equal"):
        assert sorted(farthest_points(cloud(kind), 60, start=3).tolist()) == list(range(60))


def test_every_video_begins_at_its_own_random_point() -> None:
    points = torch.randn(8, 50, 3, generator=generator())
    picks = sample_fps(points, 5, generator=generator(1))
    assert picks.shape == (8, 5)
    assert len(set(picks[:, 0].tolist())) > 3
    assert torch.equal(picks, sample_fps(points, 5, generator=generator(1)))
    for video, row in zip(points, picks.tolist()):
        assert row == farthest_points(video, 5, start=row[0]).tolist()


def test_a_video_of_many_points_is_sampled_alike_alone_and_among_others() -> None:
    points = torch.randn(2, 2000, 8, generator=generator())
    for videos in (points, points[:1]):
        first, *_ = sample_fps(videos, 40, generator=generator(1))
        assert first.tolist() == plain.fps(points[0].double().numpy(), 40, start=int(first[0]))


def test_no_point_and_no_video_are_fine() -> None:
    assert sample_fps(torch.randn(2, 5, 3), 0, generator=generator()).shape == (2, 0)
    assert sample_fps(torch.randn(0, 5, 3), 2, generator=generator()).shape == (0, 2)
    assert sample_fps(torch.randn(2, 0, 3), 0, generator=generator()).shape == (2, 0)


@pytest.mark.parametrize(("num_videos", "num_points", "threads"), [(1, 1100, 2), (2, 1100, 1), (2, 50, 1)])
def test_one_large_video_has_all_threads(
    num_videos: int, num_points: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def noting(points: torch.Tensor, count: int, *, start: int) -> np.ndarray:
        seen.append(torch.get_num_threads())
        return farthest_points(points, count, start=start)

    monkeypatch.setattr(fps, "farthest_points", noting)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        sample_fps(torch.randn(num_videos, num_points, 3, generator=generator()), 5, generator=generator())
    finally:
        torch.set_num_threads(before)
    assert seen == [threads] * num_videos


def test_the_number_of_threads_is_left_as_it_was() -> None:
    before = torch.get_num_threads()
    sample_fps(torch.randn(1, 20, 3), 4, generator=generator())
    assert torch.get_num_threads() == before


def test_features_that_are_not_numbers_are_refused() -> None:
    points = cloud("anywhere")
    points[3, 1] = np.nan
    with pytest.raises(EtadError, match="not finite"):
        farthest_points(points, 5, start=0)
