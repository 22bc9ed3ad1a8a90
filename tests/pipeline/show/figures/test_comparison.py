from pathlib import Path

import numpy as np
import pytest

from etad.data.annotations import Action, Annotations, Video
from etad.data.detections import Detections
from etad.data.errors import EtadError
from etad.pipeline.show.figures.comparison import compare, plot_comparison


@pytest.fixture
def annotations() -> Annotations:
    actions = (Action(2, 6, "Run"), Action(12, 15, "Jump"))
    videos = [Video(id, "test", 20, actions if id != "d" else ()) for id in "abcde"]
    return Annotations(Path("a.json"), {video.id: video for video in videos})


def detections(ids: str, *, seed: int = 0) -> Detections:
    random = np.random.default_rng(seed)
    start = random.uniform(0, 12, (len(ids), 25))
    rows = [
        (id, np.stack([own, own + 3], axis=1), np.zeros(25, dtype=int), random.random(25))
        for id, own in zip(ids, start)
    ]
    return Detections.join(rows, labels=("Run",))


def test_models_are_shown_on_the_same_videos_which_all_of_them_have(annotations: Annotations) -> None:
    models = compare(annotations, [("one", detections("abde")), ("two", detections("bcde", seed=1))])
    assert [[strip.video_id for strip in model.strips] for model in models] == [["b", "e"]] * 2
    assert all(len(strip.proposals) == 20 for model in models for strip in model.strips)
    assert (models[0].strips[0].proposals != models[1].strips[0].proposals).all()


def test_what_cannot_be_compared_is_told_with_the_models_name(annotations: Annotations) -> None:
    with pytest.raises(EtadError, match="runs/two: the detections have no result for video 'a'"):
        compare(annotations, [("runs/one", detections("ab")), ("runs/two", detections("b"))], videos=["a"])
    with pytest.raises(EtadError, match="no video with annotated actions has results of one and two"):
        compare(annotations, [("one", detections("ad")), ("two", detections("bd"))])
    with pytest.raises(EtadError, match="one to 4 models fit into a picture, 5 are named"):
        compare(annotations, [(str(number), detections("a")) for number in range(5)])


def test_a_proposal_is_lighter_the_nearer_it_is_and_long_names_keep_their_end(
    annotations: Annotations, tmp_path: Path
) -> None:
    near = Detections.join(
        [("a", np.array([[2.0, 6.0], [16.0, 18.0]]), np.zeros(2, dtype=int), np.array([0.9, 0.8]))], labels=("Run",)
    )
    models = compare(annotations, [("x" * 80 + "/best", near)])
    (path,) = plot_comparison(models, [tmp_path / "figure.svg"])
    drawn = path.read_text()
    # The ends of viridis.
    assert "#fde725" in drawn and "#440154" in drawn
    assert "x/best" in drawn and "x" * 60 not in drawn
