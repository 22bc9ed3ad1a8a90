import json
from pathlib import Path

import miniature
import numpy as np
import pytest

from etad.data.annotations import Action, Annotations, Video
from etad.data.detections import Detections
from etad.data.errors import EtadError
from etad.pipeline.cli.main import run
from etad.pipeline.show.plots import is_mistaken, plot_baselines, plot_curves, plot_qualitative, qualitative_strips


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


@pytest.fixture
def annotations() -> Annotations:
    actions = (Action(2, 6, "Run"), Action(12, 15, "Jump"))
    videos = [Video("a", "test", 20, actions), Video("b", "test", 30, ()), Video("c", "test", None, actions[:1])]
    return Annotations(Path("a.json"), {video.id: video for video in videos})


@pytest.fixture
def detections() -> Detections:
    random = np.random.default_rng(0)
    rows = []
    for id in ("v_a", "b", "c"):
        start = random.uniform(0, 12, 30)
        segments = np.stack([start, start + random.uniform(1, 6, 30)], axis=1)
        rows.append((id, np.repeat(segments, 2, axis=0), np.tile([0, 1], 30), random.random(60)))
    return Detections.join(rows, labels=("Jump", "Run"))


def test_fig_3_shows_twenty_distinct_proposals_of_videos_with_actions(
    annotations: Annotations, detections: Detections, tmp_path: Path
) -> None:
    strips = qualitative_strips(annotations, detections)
    assert [strip.video_id for strip in strips] == ["a", "c"]
    assert all(len(np.unique(strip.proposals, axis=0)) == 20 for strip in strips)
    best = detections.start_seconds[detections.video == 0][np.argmax(detections.score[detections.video == 0])]
    assert strips[0].proposals[0, 0] == best
    assert is_picture(plot_qualitative(strips, tmp_path / "plots" / "qualitative.png"))


def test_detections_of_a_class_that_no_overlapped_action_has_are_marked(
    annotations: Annotations, tmp_path: Path
) -> None:
    segments = np.array([[2.0, 6.0], [12.0, 15.0], [12.0, 14.9], [7.0, 9.0]])
    found = Detections.join(
        [("a", segments, np.array([0, 0, 1, 1]), np.array([0.9, 0.8, 0.7, 0.6]))], labels=("Jump", "Run")
    )
    (strip,) = qualitative_strips(annotations, found)
    assert strip.classes == ("Jump", "Jump", "Run", "Run") and strip.scores.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert is_mistaken(strip).tolist() == [True, False, True, False]
    assert is_picture(plot_qualitative([strip], tmp_path / "marked.png"))


def test_asking_for_a_video_that_cannot_be_shown_is_an_error(annotations: Annotations, detections: Detections) -> None:
    with pytest.raises(EtadError, match="has no video 'x'"):
        qualitative_strips(annotations, detections, videos=["x"])
    nothing = Detections.join([], labels=())
    with pytest.raises(EtadError, match="no result for video 'a'"):
        qualitative_strips(annotations, nothing, videos=["a"])
    with pytest.raises(EtadError, match="nothing to show"):
        qualitative_strips(annotations, nothing)


def test_curves_show_every_epoch(tmp_path: Path) -> None:
    lines = [
        {"epoch": e, "train": {"loss": 9 / e, "boundary": 1 / e, "stage1": 2 / e}, "val_loss": 10 / e}
        for e in range(1, 7)
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert is_picture(plot_curves(log, tmp_path / "curves.png"))
    with pytest.raises(EtadError, match=r"no training log\. Run `etad train`, `etad detect` or `etad e2e` first"):
        plot_curves(tmp_path / "none.jsonl", tmp_path / "curves.png")


def test_a_training_that_is_done_does_not_fail_for_its_log(tmp_path: Path) -> None:
    miniature.make(tmp_path)
    sets = [part for each in (*miniature.SETS, "detect.training.epochs=1") for part in ("--set", each)]
    command = ["detect", "-o", str(tmp_path), "--annotations", str(tmp_path / "annotations.json"), *sets]
    assert run(command) == 0
    log = tmp_path / "detect" / "log.jsonl"
    log.write_text("")
    assert run(command) == 0
    log.unlink()
    assert run(command) == 0


def test_baselines_are_bars(tmp_path: Path) -> None:
    values = {"random proposals": 0.01, "untrained encoder": 0.1, "pretrained encoder": 0.5}
    assert is_picture(plot_baselines(values, tmp_path / "baselines.png", title="demo"))
