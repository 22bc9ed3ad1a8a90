"""Pretraining learns, stops and goes on bit for bit, and leaves a checkpoint that extraction takes."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etad.data.annotations import read_annotations
from etad.data.checkpoint import load_checkpoint
from etad.data.errors import EtadError
from etad.data.interrupts import watching_signals
from etad.data.synthetic.dataset import SyntheticSpec, make_dataset
from etad.data.video.video import list_videos, probe, read_frames
from etad.detect.loop import update
from etad.extract.clips import ClipPlan, Failure
from etad.extract.encoders.encoder import Encoder, build_encoder
from etad.extract.settings import ClipSettings, PretrainSettings
from etad.extract.weights.load import load_weights
from etad.pipeline.config import load_config
from etad.pipeline.run_folder import RunFolder
from etad.pipeline.stages.pretrain import PretrainReport, pretrain, train
from etad.pipeline.stages.pretrain_clips import BACKGROUND, AnnotatedClips, DrawnClips
from reference.barcode import remux

SETTINGS = PretrainSettings(
    source="synthetic", steps=6, batch_clips=4, lr=1e-2, held_out_clips=8, checkpoint_seconds=1e-9
)
CLIPS = ClipSettings(clip_frames=4, crop=16, resize=(16, 16), fps=10.0)


@dataclass
class Colours:
    """Clips of one colour, named by it: anything learns them. Breaks off at a step, if told to."""

    breaks_at: int | None = None
    labels: tuple[str, ...] = ("red", "blue")
    can_measure: bool = True
    failures: dict[str, Failure] = field(default_factory=dict)
    flawed: dict[str, Failure] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)

    def batch(self, step: int, num_clips: int) -> tuple[np.ndarray, np.ndarray]:
        if step == self.breaks_at:
            raise KeyboardInterrupt
        rng = np.random.default_rng([0, step])
        classes = rng.integers(0, 2, num_clips)
        clips = rng.integers(0, 60, (num_clips, 4, 16, 16, 3)).astype(np.uint8)
        clips[np.arange(num_clips), ..., 2 * classes] += 120
        return clips, classes

    def held_out(self, number: int, num_clips: int) -> tuple[np.ndarray, np.ndarray]:
        return self.batch(1000 + number, num_clips)


def _encoder() -> Encoder:
    torch.manual_seed(0)
    return build_encoder("tsm_tiny", clip_frames=4)


def _drawn() -> DrawnClips:
    spec = SyntheticSpec(domain="source", size=16)
    return DrawnClips(spec=spec, clip_frames=4, size=16, steps=6, camera_steps=0.5, seed=0)


def _run(out: Path, source: Any, settings: PretrainSettings = SETTINGS, **changes: Any) -> PretrainReport:
    arguments: dict[str, Any] = {
        "encoder": _encoder(),
        "encoder_name": "tsm_tiny",
        "clip_frames": 4,
        "source": source,
        "out": out,
        "seed": 0,
        "device": torch.device("cpu"),
        "workers": 0,
        "origin": "random",
    }
    return train(settings, **(arguments | changes))


def test_it_learns_what_can_be_learned_and_says_how_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = _run(tmp_path, Colours(), SETTINGS.model_copy(update={"steps": 24, "batch_clips": 8}))
    assert report.accuracy is not None and report.accuracy > 0.9
    assert report.chance is not None and 0.4 < report.chance < 0.8
    assert "2 classes" in report.text() and "held-out clips right" in report.text()
    drawn = capsys.readouterr().err
    assert "24/24" in drawn and "pretrain: test: 100%" in drawn


def test_extraction_takes_the_checkpoint(tmp_path: Path) -> None:
    trained = _encoder()
    report = _run(tmp_path, Colours(), encoder=trained)
    fresh = build_encoder("tsm_tiny", clip_frames=4)
    assert load_weights(fresh, report.path, name="tsm_tiny").complete
    clips = torch.rand(2, 3, 4, 16, 16)
    assert torch.equal(fresh.eval()(clips), trained.eval()(clips))
    saved = load_checkpoint(report.path)
    assert saved["format"] == "etad-encoder" and saved["labels"] == ["red", "blue"]
    assert saved["clip_frames"] == 4 and saved["config"]["steps"] == 6


def test_interrupted_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = load_checkpoint(_run(tmp_path / "whole", Colours()).path)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "broken", Colours(breaks_at=3))
    assert (tmp_path / "broken" / "last.pt").exists() and not (tmp_path / "broken" / "encoder.pt").exists()
    report = _run(tmp_path / "broken", Colours())
    assert report.steps == 3
    mended = load_checkpoint(report.path)
    assert all(torch.equal(whole["encoder"][key], mended["encoder"][key]) for key in whole["encoder"])
    assert torch.equal(whole["head"]["weight"], mended["head"]["weight"])
    assert not (tmp_path / "broken" / "last.pt").exists()


@pytest.mark.parametrize("place", ["forward", "backward", "update"])
def test_a_step_given_up_at_any_place_is_taken_again_to_the_same_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    whole = load_checkpoint(_run(tmp_path / "whole", Colours()).path)
    steps = []

    def signals(*_: object) -> None:
        steps.append(place)
        if len(steps) == 3:
            for _ in range(2):  # the second does not wait for the step
                os.kill(os.getpid(), signal.SIGINT)

    encoder = _encoder()
    if place == "forward":
        encoder.register_forward_hook(signals)
    elif place == "backward":
        monkeypatch.setattr(torch.Tensor, "backward", partialmethod(_then, torch.Tensor.backward, signals))
    else:
        monkeypatch.setattr("etad.pipeline.stages.pretrain.update", lambda optimizer: (update(optimizer), signals()))
    with watching_signals(), pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "broken", Colours(), SETTINGS.model_copy(update={"checkpoint_seconds": 1e9}), encoder=encoder)
    monkeypatch.undo()
    with watching_signals():
        report = _run(tmp_path / "broken", Colours())
    assert report.steps == (3 if place == "update" else 4)
    mended = load_checkpoint(report.path)
    assert all(torch.equal(whole["encoder"][key], mended["encoder"][key]) for key in whole["encoder"])
    assert any("running_mean" in key for key in whole["encoder"])
    assert torch.equal(whole["head"]["weight"], mended["head"]["weight"])


def _then(tensor: torch.Tensor, first: Callable[[torch.Tensor], None], then: Callable[[], None]) -> None:
    first(tensor)
    then()


def test_a_video_replaced_before_it_goes_on_is_named_and_so_is_one_replaced_on_the_way(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(b"as it was")
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "run", Colours(breaks_at=3, files={"a": video}))
    video.write_bytes(b"otherwise")
    os.utime(video, (0, 0))
    with pytest.raises(EtadError, match=r"last\.pt: 1 video file is no longer what it was trained on: .*video\.mp4"):
        _run(tmp_path / "run", Colours(files={"a": video}))
    video.write_bytes(b"as it was")
    assert _run(tmp_path / "run", Colours(files={"a": video})).steps == 3
    video.write_bytes(b"otherwise")
    os.utime(video, (0, 0))
    with pytest.raises(EtadError, match=r"encoder\.pt: 1 video file is no longer"):
        _run(tmp_path / "run", Colours(files={"a": video}))

    class Replacing(Colours):
        def batch(self, step: int, num_clips: int) -> tuple[np.ndarray, np.ndarray]:
            if step == 4:
                video.write_bytes(b"replaced!")
            return super().batch(step, num_clips)

    with pytest.raises(EtadError, match="replaced or written to while trained on"):
        _run(tmp_path / "other", Replacing(files={"a": video}))
    assert not (tmp_path / "other" / "encoder.pt").exists()


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    first = _run(tmp_path, Colours())
    again = _run(tmp_path, Colours(breaks_at=0))
    assert again.steps == 0 and again.accuracy == first.accuracy and again.text().endswith("done before")


def test_a_folder_pretrained_otherwise_is_refused(tmp_path: Path) -> None:
    _run(tmp_path, Colours())
    with pytest.raises(EtadError, match=r"pretrained with pretrain\.lr=.*, not 0\.002\. Set back"):
        _run(tmp_path, Colours(), SETTINGS.model_copy(update={"lr": 2e-3}))
    with pytest.raises(EtadError, match="pretrained with other weights to start from, or other clips"):
        _run(tmp_path, Colours(), origin="other")


def test_a_loss_that_is_not_finite_stops_it_with_advice(tmp_path: Path) -> None:
    broken = _encoder()
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(EtadError, match=r"loss is nan at step 1\. Lower pretrain.lr=0.01"):
        _run(tmp_path, Colours(), encoder=broken)
    assert not (tmp_path / "encoder.pt").exists()


def test_frozen_stages_stay_and_batch_norms_of_the_others_learn(tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in _encoder().state_dict().items()}
    trained = _encoder()
    _run(tmp_path, Colours(), SETTINGS.model_copy(update={"frozen_stages": 1}), encoder=trained)
    changed = {key.split(".")[1] for key, value in trained.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"2", "3", "4"}
    assert any("running_mean" in key for key in trained.state_dict())


def test_drawn_clips_are_a_function_of_the_step_and_end_with_actors_alone() -> None:
    source = _drawn()
    assert source.labels[-1] == BACKGROUND
    first, again, other = source.batch(2, 5), source.batch(2, 5), source.batch(3, 5)
    assert np.array_equal(first[0], again[0]) and not np.array_equal(first[0], other[0])
    assert not np.array_equal(source.held_out(2, 5)[0], first[0])
    assert first[0].shape == (5, 4, 16, 16, 3)


def test_threads_that_read_ahead_change_nothing(tmp_path: Path) -> None:
    drawn = _drawn()
    alone, ahead = (load_checkpoint(_run(tmp_path / str(n), drawn, workers=n).path) for n in (0, 2))
    assert all(torch.equal(alone["encoder"][key], ahead["encoder"][key]) for key in alone["encoder"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticSpec(num_videos=8, shortest_seconds=6, longest_seconds=8, size=24, validation_share=0.4)
    return make_dataset(tmp_path_factory.mktemp("set"), spec)


def _annotated(path: Path, **changes: Any) -> AnnotatedClips:
    annotations = read_annotations(path)
    arguments: dict[str, Any] = {
        "sources": list_videos(path.parent / "videos"),
        "training": annotations.subset("training"),
        "held_out": annotations.subset("validation"),
        "plan": ClipPlan(**CLIPS.model_copy(update={"resize": (24, 24)}).model_dump()),
        "background": True,
        "seed": 0,
    }
    arguments |= changes
    return AnnotatedClips(arguments.pop("sources"), **arguments)


def test_annotated_clips_hold_every_class_and_the_background(dataset: Path) -> None:
    source = _annotated(dataset)
    clips, classes = source.batch(0, 40)
    assert clips.shape == (40, 4, 16, 16, 3)
    assert {source.labels[index] for index in classes} == {"bounce", "circle", "sway", BACKGROUND}
    assert BACKGROUND not in _annotated(dataset, background=False).labels


def test_an_annotated_clip_shows_frames_of_one_video_in_their_order(dataset: Path) -> None:
    plan = ClipPlan(**CLIPS.model_copy(update={"crop": 24, "resize": (24, 24)}).model_dump())
    clips, _ = _annotated(dataset, plan=plan).batch(0, 6)
    videos = []
    for path in list_videos(dataset.parent / "videos").values():
        info = probe(path)
        times = np.arange(info.num_frames) / info.fps
        videos.append(np.stack([frame for _, frame in read_frames(path, times, resize=(24, 24))]))
    for clip in clips:
        starts = [any(np.array_equal(clip, video[at : at + 4]) for at in range(len(video) - 3)) for video in videos]
        assert sum(starts) == 1


def test_a_broken_video_is_recorded_and_the_others_go_on(dataset: Path, tmp_path: Path) -> None:
    sources = dict(list_videos(dataset.parent / "videos"))
    broken = tmp_path / "target_0000.mp4"
    broken.write_bytes(b"no video")
    source = _annotated(dataset, sources=sources | {"target_0000": broken})
    clips, _ = source.batch(0, 40)
    assert len(clips) == 40
    assert list(source.failures) == ["target_0000"]
    report = _run(tmp_path / "run", source, SETTINGS.model_copy(update={"source": "videos"}))
    assert [failure.video_id for failure in report.failed] == ["target_0000"]


def test_frames_that_could_not_be_decoded_are_told_of_the_videos_that_lack_them(dataset: Path, tmp_path: Path) -> None:
    sources = dict(list_videos(dataset.parent / "videos"))
    damaged = tmp_path / sources["target_0000"].name
    remux(sources["target_0000"], damaged, change={number: lambda content: bytes(len(content)) for number in (9, 20)})
    source = _annotated(dataset, sources=sources | {"target_0000": damaged})
    report = _run(tmp_path / "run", source, SETTINGS.model_copy(update={"source": "videos", "batch_clips": 16}))
    assert [flaw.video_id for flaw in report.flawed] == ["target_0000"] and not report.failed
    assert "could not be decoded rightly" in report.flawed[0].reason


def test_a_class_of_which_no_video_can_be_read_does_not_stop_the_others(dataset: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    annotated = json.loads(dataset.read_text())["database"]
    sources = {
        id: broken if any(action["label"] == "sway" for action in annotated[id]["annotations"]) else path
        for id, path in list_videos(dataset.parent / "videos").items()
    }
    assert {broken} < set(sources.values())
    source = _annotated(dataset, sources=sources)
    clips, classes = source.batch(0, 40)
    assert len(clips) == 40 and source.labels.index("sway") not in classes
    assert set(source.failures) <= {id for id, path in sources.items() if path == broken}
    assert np.array_equal(source.batch(0, 40)[0], clips)


def test_no_video_at_all_is_the_users_mistake(dataset: Path) -> None:
    with pytest.raises(EtadError, match="no clip to pretrain on: none of 5 training videos has both"):
        _annotated(dataset, sources={})


def test_only_broken_videos_are_an_error_with_the_reason(dataset: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    sources = {video: broken for video in list_videos(dataset.parent / "videos")}
    with pytest.raises(EtadError, match=r"no class has a clip that can be read; the last failed with: .*broken"):
        _annotated(dataset, sources=sources).batch(0, 2)


def test_the_synthetic_source_set_refuses_crops_that_are_no_square(tmp_path: Path) -> None:
    config = load_config("demo", ["clips.resize=[48, 27]", "clips.crop=[48, 27]"])
    with pytest.raises(EtadError, match=r"clips\.crop=\[48, 27\].*square frames.*Set clips\.crop=48"):
        pretrain(config, RunFolder(tmp_path), device=torch.device("cpu"))


def test_background_ends_where_the_file_ends_and_not_where_annotations_say(
    dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def latest(source: AnnotatedClips) -> dict[str, float]:
        every = [stretch for stretches in source._training.values() for stretch in stretches]
        return {each.video_id: max(s.end_seconds for s in every if s.video_id == each.video_id) for each in every}

    right = latest(_annotated(dataset))
    training = read_annotations(dataset).subset("training")
    longer = [replace(video, duration_seconds=video.duration_seconds * 1.5) for video in training]
    source = _annotated(dataset, training=longer)
    assert latest(source).keys() == right.keys()
    assert all(end <= right[video_id] + 0.1 for video_id, end in latest(source).items())
    assert f"{len(training)} annotated durations are not the measured one, which counts" in caplog.text
