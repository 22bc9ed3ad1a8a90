"""`etad predict`: what a run finds in videos that nobody has annotated."""

import csv
import json
import shutil
from pathlib import Path

import miniature
import miniature_e2e
import numpy as np
import pytest
import torch

import etad as etad_api
from etad.data.annotations import read_annotations
from etad.data.checkpoint import load_checkpoint, save_checkpoint
from etad.data.detections import read_detections
from etad.data.digest import file_sha256
from etad.extract.encoders.encoder import build_encoder
from etad.extract.weights.load import encoder_checkpoint
from etad.pipeline.cli.main import run as etad
from etad.pipeline.predict.videos import find_inputs

from .conftest import TrainedSet, write_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(trained: TrainedSet, tmp_path: Path) -> Path:
    """A copy of the trained run."""
    return Path(shutil.copytree(trained.run, tmp_path / "run"))


def check_same(found: Path, expected: Path, *ids: str) -> None:
    """Compare detections of some videos; batches of another size differ by rounding, which may change the order."""
    one, other = read_detections(found), read_detections(expected)
    assert set(one.video_ids) == set(ids)
    for id in ids:
        rows = []
        for each in (one, other):
            own = each.video == each.video_ids.index(id)
            labels = np.array([*each.labels])[each.label[own]]
            start, end = each.start_seconds[own], each.end_seconds[own]
            order = np.lexsort((end.round(2), start.round(2), labels))
            rows.append((labels[order].tolist(), np.stack([start, end, each.score[own]])[:, order]))
        assert len(rows[0][0]) and rows[0][0] == rows[1][0]
        np.testing.assert_allclose(rows[0][1], rows[1][1], atol=1e-3)


def test_a_video_is_detected_as_among_the_test_videos_and_not_done_twice(
    trained: TrainedSet, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected, found = run / "detect" / "detections.json", run / "predict" / "detections.json"
    ids = read_detections(expected).video_ids
    files = [trained.videos / f"{id}.mp4" for id in ids]
    assert trained.predict(run, files[0], trained.videos / f"{files[1].stem[:-1]}[{files[1].stem[-1]}].mp4") == 0
    check_same(found, expected, *ids)
    printed = capsys.readouterr().out
    assert "2 videos predicted (0 done before), 0 failed" in printed
    assert "on the 2 videos tested on (subset 'validation'" in printed
    assert all(id in printed for id in ids)
    with (run / "predict" / "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    reported = sorted({row["video"] for row in rows})
    assert list(rows[0]) == ["video", "start", "end", "label", "score"] and set(reported) <= set(ids)
    assert f"{len(rows)} detections -> " in printed and len(rows) < len(read_detections(found))
    subtitles = run / "predict" / "subtitles"
    assert sorted(path.name for path in subtitles.iterdir()) == [
        f"{id}.{kind}" for id in ids for kind in ("srt", "vtt")
    ]
    for id in ids:
        own = sum(row["video"] == id for row in rows)
        assert (subtitles / f"{id}.srt").read_text().count(" --> ") == own
    assert trained.predict(run, *files) == 0
    assert "2 videos predicted (2 done before), 0 failed" in capsys.readouterr().out
    check_same(found, expected, *ids)

    (run / "predict" / "videos" / f"{files[0].stem}.json").write_text("{")
    assert trained.predict(run, files[0]) == 0
    assert "1 video predicted (0 done before)" in capsys.readouterr().out
    check_same(found, expected, ids[0])


def test_a_file_that_fails_is_listed_and_the_others_go_on(
    trained: TrainedSet, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    shutil.copy(next(iter(sorted(trained.videos.iterdir()))), folder / "good.mp4")
    (folder / "bad.mp4").write_bytes(b"no video at all" * 99)
    shutil.copy(folder / "good.mp4", folder / "two\nlines.mp4")
    assert trained.predict(run, folder) == 1
    printed = capsys.readouterr().out
    assert "1 video predicted (0 done before), 2 failed" in printed
    assert "bad.mp4" in printed and "control character" in printed
    assert read_detections(run / "predict" / "detections.json").video_ids == ("good",)
    assert "there is no such file" in miniature.complaint(["predict", str(folder / "none.mp4"), "-o", str(run)], capsys)
    capsys.readouterr()
    assert trained.predict(run, folder / "bad.mp4") == 1
    assert "the results of 1 earlier video stay as they are" in capsys.readouterr().out
    assert read_detections(run / "predict" / "detections.json").video_ids == ("good",)
    other = sorted(trained.videos.iterdir())[1]
    assert trained.predict(run, other) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "hold the videos of this call alone; 1 other predicted before" in said
    for threshold in ("nan", "2"):
        assert etad(["predict", str(other), "-o", str(run), "--threshold", threshold]) == 2


def test_files_of_one_stem_get_ids_that_tell_them_apart(trained: TrainedSet, run: Path, tmp_path: Path) -> None:
    for name in ("day1", "day2"):
        (tmp_path / name).mkdir()
        shutil.copy(sorted(trained.videos.iterdir())[0], tmp_path / name / "clip.mp4")
    assert trained.predict(run, tmp_path / "day1", tmp_path / "day2", tmp_path / "day1" / "clip.mp4") == 0
    found = read_detections(run / "predict" / "detections.json")
    assert found.video_ids == ("day1/clip.mp4", "day2/clip.mp4")
    assert sorted(path.name for path in (run / "predict" / "videos").iterdir()) == [
        "day1%2Fclip.mp4.json",
        "day2%2Fclip.mp4.json",
    ]
    other, _ = find_inputs([tmp_path / "day1", tmp_path / "day2" / "clip.mp4", *sorted(trained.videos.iterdir())[:1]])
    assert list(other) == ["day1/clip.mp4", "day2/clip.mp4", "target_0000"]


def test_weights_are_found_where_they_were_and_others_are_refused_with_both_digests(
    trained: TrainedSet, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = file_sha256(trained.weights)
    noted = json.loads((run / "weights.json").read_text())
    assert noted == {digest: str(trained.weights)}
    video = str(sorted(trained.videos.iterdir())[0])
    other = write_weights(tmp_path / "other.pt", seed=2)
    said = miniature.complaint(["predict", video, "-o", str(run), "--weights", str(other)], capsys)
    assert digest in said and file_sha256(other) in said and str(other) in said

    moved = Path(shutil.copy(trained.weights, tmp_path / "moved.pt"))
    checkpoint = run / "detect" / "checkpoints" / "last.pt"
    state = load_checkpoint(checkpoint)
    assert state["source"]["weights"] == str(trained.weights)
    state["source"]["weights"] = str(tmp_path / "gone.pt")
    save_checkpoint(checkpoint, state)
    (run / "weights.json").write_text(json.dumps({digest: str(tmp_path / "gone too.pt")}))
    said = miniature.complaint(["predict", video, "-o", str(run)], capsys)
    assert digest in said and "gone.pt" in said and "gone too.pt" in said and "--weights" in said
    assert trained.predict(run, video, "--weights", moved) == 0


def test_a_checkpoint_predicts_into_another_run_folder(
    trained: TrainedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = trained.run / "detect" / "checkpoints" / "last.pt"
    expected = trained.run / "detect" / "detections.json"
    id = read_detections(expected).video_ids[0]
    words = (trained.videos / f"{id}.mp4", "--checkpoint", checkpoint, "--threshold", "0.5")
    assert trained.predict(tmp_path / "elsewhere", *words) == 0
    check_same(tmp_path / "elsewhere" / "predict" / "detections.json", expected, id)
    assert "threshold: 0.5, as named" in (printed := capsys.readouterr().out)
    assert "nothing above its threshold" in printed
    said = miniature.complaint(["predict", str(words[0]), "-o", str(tmp_path / "none")], capsys)
    assert "there is no run folder here" in said


def test_labels_from_a_file_of_scores_leave_new_videos_without_labels_and_say_so(
    trained: TrainedSet, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = run / "detect" / "checkpoints" / "last.pt"
    state = load_checkpoint(checkpoint)
    state["settings"]["labels"]["source"] = "scores"
    save_checkpoint(checkpoint, state)
    assert trained.predict(run, sorted(trained.videos.iterdir())[0]) == 0
    assert "detections have no label" in capsys.readouterr().out
    found = read_detections(run / "predict" / "detections.json")
    assert len(found) and not found.labels
    (run / "detect" / "classifier.pt").unlink()
    state["settings"]["labels"]["source"] = "classifier"
    save_checkpoint(checkpoint, state)
    said = miniature.complaint(["predict", str(sorted(trained.videos.iterdir())[0]), "-o", str(run)], capsys)
    assert "classifier.pt" in said


def test_a_run_that_was_trained_end_to_end_predicts_with_its_tuned_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = miniature_e2e.make(tmp_path / "set")
    cache = tmp_path / "tuned.h5"
    out = miniature_e2e.run(dataset, tmp_path / "run", *miniature_e2e.SHORT, features=cache).path
    expected = out / "detections.json"
    ids = read_detections(expected).video_ids
    files = [str(dataset.parent / "videos" / f"{id}.mp4") for id in ids]
    assert etad(["predict", *files, "-o", str(tmp_path / "run")]) == 0
    check_same(tmp_path / "run" / "predict" / "detections.json", expected, *ids)
    said = miniature.complaint(["predict", *files, "-o", str(tmp_path / "run"), "--weights", files[0]], capsys)
    assert "its own encoder" in said

    # Its detector on features of the encoder that it began with is refused, too.
    options = miniature_e2e.options(dataset, tmp_path / "other")
    assert etad(["extract", *options]) == 0
    capsys.readouterr()
    words = ["--no-train", "--checkpoint", str(out / "checkpoints" / "last.pt")]
    said = miniature.complaint(["detect", *options, *words], capsys)
    assert file_sha256(out / "encoder.pt") in said and "random-seed-0" in said
    assert etad(["detect", *options, *words, "--features", str(cache)]) == 0
    check_same(tmp_path / "other" / "detect" / "detections.json", expected, *ids)


def test_the_page_has_every_detection_the_ground_truth_and_the_thresholds(
    trained: TrainedSet, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = sorted(trained.videos.iterdir())[0]
    assert trained.predict(run, video, "--html", "--draw", "--ground-truth", trained.annotations) == 0
    assert (run / "predict" / "drawn" / f"{video.stem}.mp4").exists()
    page = run / "predict" / "index.html"
    assert f"page -> {page}" in capsys.readouterr().out
    text = page.read_text()
    annotated = read_annotations(trained.annotations).videos[video.stem]
    assert video.name in text and all(action.label in text for action in annotated.actions)
    assert trained.predict(run, video, "--ground-truth", trained.annotations) == 2
    assert "goes with --html" in capsys.readouterr().err


def test_new_videos_of_a_run_with_joined_encoders_are_encoded_by_all(
    trained: TrainedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    weights = tmp_path / "r18.pt"
    torch.save(encoder_checkpoint(build_encoder("tsm_r18"), name="tsm_r18"), weights)
    sets = (f"encoder.also=[{{name='tsm_r18', weights='{weights}'}}]", "detect.labels.source=classifier")
    options = miniature_e2e.options(trained.annotations, out, *sets)
    assert etad(["extract", *options]) == 0 and etad(["detect", *options]) == 0
    expected = out / "detect" / "detections.json"
    id = read_detections(expected).video_ids[0]
    assert trained.predict(out, trained.videos / f"{id}.mp4") == 0
    check_same(out / "predict" / "detections.json", expected, id)
    found = etad_api.load(out).predict(trained.videos / f"{id}.mp4", threshold=0.0)
    assert len(found) == (read_detections(expected).video == 0).sum()
    # Where the config does not name the file, the checkpoint and the run folder know where it lies.
    assert trained.predict(out, trained.videos / f"{id}.mp4", "--set", "encoder.also=['tsm_r18']") == 0
    weights.unlink()
    assert trained.predict(out, trained.videos / f"{id}.mp4", "--set", "encoder.also=['tsm_r18']") == 2
    assert "was trained on features of tsm_r18 with weights of sha256" in capsys.readouterr().err
    capsys.readouterr()
    words = ["predict", str(trained.videos / f"{id}.mp4"), "-o", str(out), "--set", "encoder.also=[]"]
    assert "tsm_tiny+tsm_r18" in miniature.complaint(words, capsys)
