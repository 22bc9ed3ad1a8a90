from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import SNIPPETS, make

from etad.data.annotations import Annotations, Video, read_annotations
from etad.data.cache.cache import FeatureCache
from etad.data.errors import EtadError
from etad.detect.sampling.fps import sample_fps
from etad.pipeline.show.figures.sampling import map_snippets, plot_sampling


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Annotations, FeatureCache]]:
    cache, annotations = make(tmp_path_factory.mktemp("data"), num_videos=6)
    with FeatureCache(cache) as features:
        yield read_annotations(annotations), features


def test_the_map_shows_which_snippets_lie_in_actions_and_what_is_sampled(
    data: tuple[Annotations, FeatureCache], tmp_path: Path
) -> None:
    annotations, features = data
    (found,) = map_snippets(annotations, features, subset="training", ratio=0.25, seed=3)
    assert found.video_id == "v00" and found.points.shape == (SNIPPETS, 2)
    (action,) = annotations.videos["v00"].actions
    centers = features.timing("v00").centers(SNIPPETS)
    expected = [action.start_seconds <= center <= action.end_seconds for center in centers]
    assert found.in_action.tolist() == expected and 0 < sum(expected) < SNIPPETS
    generator = torch.Generator().manual_seed(3)
    picks = sample_fps(torch.from_numpy(features.read("v00"))[None].double(), 4, generator=generator)
    assert found.picks["fps"].tolist() == sorted(picks[0].tolist())
    assert len(found.picks["dpp"]) == 4

    again = map_snippets(annotations, features, subset="training", ratio=0.25, seed=3)
    np.testing.assert_array_equal(again[0].points, found.points)
    (one,) = plot_sampling([found, found], [tmp_path / "one.svg"])
    (two,) = plot_sampling([*again, *again], [tmp_path / "two.svg"])
    assert one.read_bytes() == two.read_bytes()
    assert "v00: 16 snippets" in one.read_text() and "DPP, 4 sampled" in one.read_text()


def test_videos_that_cannot_be_mapped_are_told(data: tuple[Annotations, FeatureCache]) -> None:
    annotations, features = data
    with pytest.raises(EtadError, match="has no video 'x'"):
        map_snippets(annotations, features, subset="training", videos=["x"])
    more = Annotations(annotations.source, {**annotations.videos, "y": Video("y", "other", 10, ())})
    with pytest.raises(EtadError, match="has no features of video 'y'"):
        map_snippets(more, features, subset="training", videos=["y"])
    with pytest.raises(EtadError, match="no video of subset 'other' has 8 snippets, some in actions"):
        map_snippets(more, features, subset="other")
    with pytest.raises(EtadError, match="at most 4 videos fit into a picture, 5 are named"):
        map_snippets(annotations, features, subset="training", videos=["v00"] * 5)
