"""The stage `e2e`: what it refuses, what it leaves for the other stages, and what it does not do twice."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from miniature_e2e import options, run, trainer

from etad.data.annotations import read_annotations
from etad.data.checkpoint import load_checkpoint
from etad.data.errors import EtadError
from etad.detect.model.build import load_detector
from etad.extract.encoders.encoder import build_encoder
from etad.extract.weights.load import load_weights
from etad.pipeline.cli import main as cli
from etad.pipeline.config import load_config
from etad.pipeline.e2e.setup import find_detector
from etad.pipeline.run_folder import RunFolder
from reference.barcode import remux


@pytest.mark.slow
def test_it_chains_after_detect_and_is_not_done_twice(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = json.loads(dataset.read_text())
    tree["database"]["target_0000"]["subset"] = "apart"
    annotations = tmp_path / "apart.json"
    annotations.write_text(json.dumps(tree))
    apart = ["e2e.validate_epochs=true", "data.validation_subset=apart", f"data.annotations={annotations}"]
    words = options(dataset, tmp_path, *apart)
    assert cli.run([*words, "extract", "detect", "e2e"]) == 0
    printed = capsys.readouterr().out
    assert f"detector: starts from {tmp_path / 'detect' / 'checkpoints' / 'last.pt'}" in printed
    assert printed.count("annotated videos have results.") == 2
    metrics = (tmp_path / "e2e" / "metrics.json").read_text()
    assert json.loads(metrics)["videos"]["missing"] == []
    lines = (tmp_path / "e2e" / "log.jsonl").read_text().splitlines()
    assert all(json.loads(line)["val_loss"] > 0 for line in lines)
    assert (tmp_path / "plots" / "e2e_curves.png").exists()
    for kind, picture in (("curves", "e2e_curves.png"), ("qualitative", "e2e_qualitative.png")):
        (tmp_path / "plots" / picture).unlink(missing_ok=True)
        assert cli.run([*words, "plot", kind, "--stage", "e2e"]) == 0
        assert (tmp_path / "plots" / picture).exists()
    capsys.readouterr()

    # The other stages take what it leaves.
    last = tmp_path / "e2e" / "checkpoints" / "last.pt"
    assert load_detector(last).source["encoder"] == "tsm_tiny"
    encoder = build_encoder("tsm_tiny", clip_frames=2)
    assert load_weights(encoder, tmp_path / "e2e" / "encoder.pt", name="tsm_tiny").complete
    saved = load_checkpoint(last)["encoder"]
    assert all(torch.equal(tensor, saved[name]) for name, tensor in encoder.state_dict().items())

    made = (path for path in (tmp_path / "e2e").rglob("*") if path.is_file() and path.name != "metrics.json")
    before = {path: path.stat().st_mtime_ns for path in made}
    assert cli.run([*words, "e2e"]) == 0
    printed = capsys.readouterr().out
    assert "training skipped" in printed and "inference skipped" in printed
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (tmp_path / "e2e" / "metrics.json").read_text() == metrics

    # A damaged file of the encoder is written again from the checkpoint.
    tuned_file = tmp_path / "e2e" / "encoder.pt"
    content = tuned_file.read_bytes()
    tuned_file.write_bytes(content[:5000] + bytes([content[5000] ^ 255]) + content[5001:])
    assert cli.run([*words, "e2e"]) == 0
    assert tuned_file.read_bytes() == content

    # Features extracted with its encoder, and its detector on them, detect the same.
    tuned = ["-o", str(tmp_path / "again"), *words[2:], "--set", "extract.store_dtype=float32"]
    assert cli.run([*tuned, "extract", "--weights", str(tmp_path / "e2e" / "encoder.pt")]) == 0
    assert cli.run([*tuned, "detect", "--checkpoint", str(last), "--no-train"]) == 0
    results = [json.loads((folder / "detections.json").read_text())["results"] for folder in _both(tmp_path)]
    for id, found in results[0].items():
        assert [each["score"] for each in found] == pytest.approx([each["score"] for each in results[1][id]], rel=1e-3)


def _both(folder: Path) -> tuple[Path, Path]:
    return folder / "e2e", folder / "again" / "detect"


def test_a_file_that_is_no_video_is_left_out_from_the_start_and_makes_the_status_one(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(dataset.parent, tmp_path / "set")
    for id in ("target_0000", "target_0005"):  # one to learn from, one to test on
        (tmp_path / "set" / "videos" / f"{id}.mp4").write_bytes(b"no video")
    annotations = tmp_path / "set" / "annotations.json"
    words = options(annotations, tmp_path / "run", "e2e.failing_share=0.5", "e2e.epochs=1")
    for _ in range(2):  # what failed is told again when there is nothing left to do
        assert cli.run([*words, "e2e"]) == 1
        printed = capsys.readouterr().out
        assert "target_0000" in printed and "target_0005" in printed
        assert "1 of 2 annotated videos have results." in printed
    assert "inference skipped" in printed


@pytest.mark.parametrize(
    ("share", "said"), [(0.5, "more than e2e.failing_share=0.5 allows: target_0000"), (1, ": targ")]
)
def test_where_no_video_can_be_read_at_all_the_list_says_why(
    dataset: Path, tmp_path: Path, share: float, said: str
) -> None:
    shutil.copytree(dataset.parent, tmp_path / "set")
    for id in ("target_0000", "target_0001", "target_0002", "target_0003"):
        (tmp_path / "set" / "videos" / f"{id}.mp4").write_bytes(b"no video")
    with pytest.raises(EtadError, match=r"4 of 4 training videos cannot be read") as refusal:
        run(tmp_path / "set" / "annotations.json", tmp_path / "run", f"e2e.failing_share={share}")
    assert said in str(refusal.value)


@pytest.mark.parametrize(("ids", "subset"), [((0, 1, 2, 3), "training"), ((4, 5), "validation")])
def test_a_subset_without_any_file_is_refused_before_training(
    dataset: Path, tmp_path: Path, ids: tuple[int, ...], subset: str
) -> None:
    shutil.copytree(dataset.parent, tmp_path / "set")
    for number in ids:
        (tmp_path / "set" / "videos" / f"target_000{number}.mp4").unlink()
    with pytest.raises(EtadError, match=f"no video of subset '{subset}' has a file here"):
        run(tmp_path / "set" / "annotations.json", tmp_path / "run")
    assert not (tmp_path / "run" / "e2e").exists()


def test_test_videos_that_all_break_leave_the_training_and_say_so(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset.parent, tmp_path / "set")
    for id in ("target_0004", "target_0005"):
        (tmp_path / "set" / "videos" / f"{id}.mp4").write_bytes(b"no video")
    found = run(tmp_path / "set" / "annotations.json", tmp_path / "run", "e2e.epochs=1")
    assert found.left_out == ("target_0004", "target_0005") and found.evaluation is None
    assert "no inference: none of 2 test videos could be encoded" in found.notes
    assert (tmp_path / "run" / "e2e" / "encoder.pt").exists()


def test_what_is_measured_follows_the_annotations_and_thresholds(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset.parent, tmp_path / "set")
    annotations, metrics = tmp_path / "set" / "annotations.json", tmp_path / "run" / "e2e" / "metrics.json"
    run(annotations, tmp_path / "run", "e2e.epochs=1")
    found = run(annotations, tmp_path / "run", "e2e.epochs=1", "detect.tious=[0.25]")
    assert any("inference skipped" in note for note in found.notes)
    assert list(json.loads(metrics.read_text())["mAP"]) == ["0.25"]
    tree = json.loads(annotations.read_text())
    # The measured duration places detections, so an annotated one makes none anew.
    tree["database"]["target_0005"]["duration"] += 0.2
    annotations.write_text(json.dumps(tree))
    before = metrics.read_bytes()
    found = run(annotations, tmp_path / "run", "e2e.epochs=1", "detect.tious=[0.25]")
    assert any("inference skipped: detections.json" in note for note in found.notes)
    assert metrics.read_bytes() == before
    tree["database"]["target_0005"]["annotations"] = [{"segment": [0.0, 0.1], "label": "bounce"}]
    annotations.write_text(json.dumps(tree))
    found = run(annotations, tmp_path / "run", "e2e.epochs=1", "detect.tious=[0.25]")
    assert any("inference skipped: detections.json" in note for note in found.notes)
    assert metrics.read_bytes() != before
    # Other videos are another inference.
    tree["database"].pop("target_0004")
    annotations.write_text(json.dumps(tree))
    found = run(annotations, tmp_path / "run", "e2e.epochs=1", "detect.tious=[0.25]")
    assert not any("inference skipped" in note for note in found.notes)


def test_detections_of_an_inference_that_stopped_half_way_never_pass_for_others(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "e2e" / "detections.json"
    run(dataset, tmp_path, "e2e.epochs=1")
    before = results.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("etad.pipeline.stages.infer.measure", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        run(dataset, tmp_path, "e2e.epochs=1", "detect.inference.max_detections=3")
    assert results.read_bytes() != before
    run(dataset, tmp_path, "e2e.epochs=1")
    assert results.read_bytes() == before


def test_the_tuned_encoders_features_are_kept_on_request_for_the_other_stages(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, last = tmp_path / "kept" / "tuned.h5", tmp_path / "run" / "e2e" / "checkpoints" / "last.pt"
    short = ["e2e.epochs=1", "extract.store_dtype=float32"]
    in_memory = run(dataset, tmp_path / "run", *short)
    kept = run(dataset, tmp_path / "run", *short, features=cache)
    assert f"features: 6 videos encoded, 0 there already -> {cache}" in kept.notes
    assert in_memory.evaluation is not None and kept.evaluation == in_memory.evaluation

    # Nothing is done twice, and what a lost part costs is that part.
    before = cache.stat().st_mtime_ns
    notes = run(dataset, tmp_path / "run", *short, features=cache).notes
    assert any("0 videos encoded, 6 there already" in note for note in notes)
    assert any("inference skipped" in note for note in notes) and cache.stat().st_mtime_ns == before

    # It is a cache like any other, the very one that `extract` would have made.
    assert cli.run(["verify", str(cache)]) == 0
    words = options(dataset, tmp_path / "detect", *short)
    assert cli.run(["detect", *words, "--features", str(cache), "--checkpoint", str(last), "--no-train"]) == 0
    results = [(tmp_path / folder / "detections.json").read_text() for folder in ("run/e2e", "detect/detect")]
    assert results[0] == results[1]
    assert cli.run(["detect", *options(dataset, tmp_path / "trained", *short), "--features", str(cache)]) == 0
    tuned = str(tmp_path / "run" / "e2e" / "encoder.pt")
    (tmp_path / "again").mkdir()
    shutil.copy(cache, tmp_path / "again" / "features.h5")
    capsys.readouterr()
    words = options(dataset, tmp_path / "again", *short)
    assert cli.run(["extract", *words, "--weights", tuned]) == 0
    assert "0 videos extracted, 6 there already" in capsys.readouterr().out

    # Other weights' features are refused before training, not after.
    with pytest.raises(EtadError, match=r"holds features of other weights \([0-9a-f]{12}\) than this run's tuned"):
        run(dataset, tmp_path / "other", *short, "seed=1", features=cache)
    assert not (tmp_path / "other" / "e2e").exists()


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["encoder.frozen_stages=4"], r"frozen_stages=4 freezes the whole encoder, so no snippet has a gradient"),
        (["e2e.ratio=0.05"], r"e2e\.ratio=0\.05 of 12 snippets is none.*Set it to 0\.083 or more"),
        (["clips.layout=sliding"], r"clips\.layout=sliding does not go with detect\.windows=rescale"),
        (["clips.num_snippets=8"], r"clips\.num_snippets=8 and detect\.num_snippets=12 differ"),
        (["encoder.init=weights"], r"encoder tsm_tiny has no weights"),
    ],
)
def test_what_cannot_work_is_said_before_it_begins(dataset: Path, tmp_path: Path, sets: list[str], said: str) -> None:
    with pytest.raises(EtadError, match=said):
        run(dataset, tmp_path, *sets)
    assert not (tmp_path / "e2e" / "checkpoints").exists()


@pytest.mark.parametrize("memory", ["full", "checkpoint"])
def test_a_budget_that_nothing_would_keep_is_refused(memory: str) -> None:
    with pytest.raises(EtadError, match=f"memory_budget_gib=2 is kept by memory='sgs' alone.*memory='{memory}' takes"):
        load_config(None, [f"e2e.memory={memory}", "e2e.memory_budget_gib=2"])


def test_graphs_cannot_be_kept_of_what_is_chosen_later() -> None:
    with pytest.raises(
        EtadError, match="first_pass_cache='graphs' needs to know the sample beforehand, but strategy='fps'"
    ):
        load_config(None, ["e2e.first_pass_cache=graphs", "e2e.strategy=fps"])


def test_a_detector_that_does_not_fit_or_is_half_trained_is_refused(dataset: Path, tmp_path: Path) -> None:
    assert cli.run([*options(dataset, tmp_path), "extract", "detect"]) == 0
    last = tmp_path / "detect" / "checkpoints" / "last.pt"
    with pytest.raises(EtadError, match=r"--init-detector .*last\.pt .* e2e\.start=scratch wants a fresh one"):
        find_detector(load_config(None, ["e2e.start=scratch"]), RunFolder(tmp_path), last, read_annotations(dataset))
    with pytest.raises(EtadError, match=r"trained with detect\.num_stages=1, the config says 2"):
        trainer(dataset, tmp_path, "detect.num_stages=2")
    with pytest.raises(EtadError, match=r"trained on features of tsm_tiny, the config says encoder\.name=tsm_r18"):
        trainer(dataset, tmp_path, "encoder.name=tsm_r18")
    path = tmp_path / "detect" / "checkpoints" / "last.pt"
    state = load_checkpoint(path)
    state["position"]["epoch"] = 0
    torch.save(state, path)
    with pytest.raises(EtadError, match="only half trained"):
        trainer(dataset, tmp_path)
    trainer(dataset, tmp_path, "e2e.start=scratch")


def test_a_memory_budget_is_planned_for_and_compared_with_what_a_step_took(dataset: Path, tmp_path: Path) -> None:
    found = run(dataset, tmp_path, "e2e.memory_budget_gib=2", "e2e.epochs=1")
    (told,) = (note for note in found.notes if note.startswith("memory: planned"))
    planned, measured = (float(word) for word in told.split() if word[0] == "0")
    assert measured == pytest.approx(planned, rel=0.2)
    with pytest.raises(EtadError, match=r"memory_budget_gib=0\.001 does not hold one micro-batch of one snippet"):
        run(dataset, tmp_path, "e2e.memory_budget_gib=0.001", "e2e.epochs=1")


def test_videos_with_a_bad_packet_are_used_listed_and_told_again_when_nothing_is_left_to_do(
    dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(dataset.parent, tmp_path / "set")
    database = json.loads(dataset.read_text())["database"]
    trained = next(id for id, video in database.items() if video["subset"] == "training")
    tested = next(id for id, video in database.items() if video["subset"] == "validation")
    for id in (trained, tested):
        video = next((tmp_path / "set" / "videos").glob(f"{id}.*"))
        whole = video.rename(video.with_name("whole.orig"))
        remux(whole, video, change={20: lambda content: bytes(len(content))})
        whole.unlink()
    for _ in range(2):
        found = run(tmp_path / "set" / dataset.name, tmp_path / "run", "e2e.epochs=1")
        assert {flaw.video_id for flaw in found.flawed} == {trained, tested} and not found.failed
        assert all("could not be decoded" in flaw.reason for flaw in found.flawed)
    assert ["(in training)" in flaw.reason for flaw in found.flawed if flaw.video_id == trained] == [True]
    assert any("inference skipped" in note for note in found.notes)
    cached = run(tmp_path / "set" / dataset.name, tmp_path / "run", "e2e.epochs=1", features=tmp_path / "tuned.h5")
    assert {flaw.video_id for flaw in cached.flawed} == {trained, tested}


def test_a_training_video_that_is_another_one_of_the_same_length_stops_what_goes_on(
    dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(dataset.parent, tmp_path / "set")
    run(tmp_path / "set" / dataset.name, tmp_path / "run", "e2e.epochs=1")
    video = next((tmp_path / "set" / "videos").glob("target_0000.*"))
    shutil.copy(video, tmp_path / "whole")
    # Another content under the same times, as a film has that was encoded again.
    remux(tmp_path / "whole", video, change={20: lambda content: bytes(len(content))})
    with pytest.raises(EtadError, match=rf"1 video file is no longer what it was trained on: .*{video.name}"):
        run(tmp_path / "set" / dataset.name, tmp_path / "run", "e2e.epochs=2")
    shutil.copy(tmp_path / "whole", video)  # back, with another date
    run(tmp_path / "set" / dataset.name, tmp_path / "run", "e2e.epochs=2")
