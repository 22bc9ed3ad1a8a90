"""What `import etad` offers: lazily loaded, and the code of docs/python.md runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import miniature
import miniature_e2e
import numpy as np
import pytest
from conftest import ROOT

import etad
from etad.data.cache.cache import FeatureCache
from etad.data.detections import read_detections
from etad.pipeline.cli.main import run
from reference.barcode import remux, write

from .conftest import TrainedSet

pytestmark = pytest.mark.usefixtures("one_thread")


def test_importing_loads_no_library_and_every_name_is_there() -> None:
    heavy = "torch", "h5py", "pydantic", "numpy", "av", "click", "matplotlib", "pandas", "scipy"
    code = f"import sys, etad; print([name for name in {heavy} if name in sys.modules], len(sys.modules))"
    before = int(subprocess.check_output([sys.executable, "-c", "import sys; print(len(sys.modules))"], text=True))
    loaded, count = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT.parent).rsplit(" ", 1)
    assert loaded == "[]"
    assert int(count) < before + 40
    assert set(etad.__all__) <= set(dir(etad))
    assert all(getattr(etad, name).__name__ == name for name in etad.__all__)
    with pytest.raises(AttributeError, match="no attribute 'detections'"):
        _ = etad.detections


def test_the_code_in_the_docs_runs(trained: TrainedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    shutil.copytree(trained.run, tmp_path / "runs" / "mine")
    shutil.copytree(trained.videos, tmp_path / "videos")
    shutil.copy(trained.annotations, tmp_path / "annotations.json")
    shutil.copy(trained.weights, tmp_path / "encoder.pt")
    # A test video under another name, and annotated, so that it can be evaluated.
    new = etad.read_annotations(trained.annotations).subset("validation")[0]
    shutil.copy(trained.videos / f"{new.id}.mp4", tmp_path / "new.mp4")
    (tmp_path / "annotations.json").write_text(trained.annotations.read_text().replace(f'"{new.id}"', '"new"'))
    detections = tmp_path / "runs" / "mine" / "detect" / "detections.json"
    detections.write_text(detections.read_text().replace(f'"{new.id}"', '"new"'))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["everything"] and len(names["cache"]) == 6  # type: ignore[arg-type]


def test_a_video_and_its_features_give_the_same_detections(trained: TrainedSet) -> None:
    predictor = etad.load(trained.run)
    video = sorted(trained.videos.iterdir())[0]
    found = predictor.predict(video, threshold=0.0)
    assert found and found == sorted(found, key=lambda each: -each.score)
    reported = predictor.predict(str(video))
    least = predictor.thresholds
    assert reported == [each for each in found if each.score >= least[str(each.label)]]
    with FeatureCache(trained.run / "features.h5") as cache:
        features, timing = cache.read(video.stem), cache.timing(video.stem)
    centers = timing.centers(len(features))
    again = predictor.predict(
        features,
        fps=timing.fps,
        stride=float(np.diff(centers).mean() * timing.fps),
        first_center_seconds=float(centers[0]),
        duration_seconds=timing.duration_seconds,
        threshold=0.0,
    )
    assert len(again) == len(found)
    assert [each.score for each in again] == pytest.approx([each.score for each in found], abs=1e-3)


def test_the_command_detects_the_very_same(trained: TrainedSet, tmp_path: Path) -> None:
    videos = sorted(trained.videos.iterdir())[:2]
    shutil.copytree(trained.run, tmp_path / "run")
    assert trained.predict(tmp_path / "run", *videos) == 0
    written = read_detections(tmp_path / "run/predict/detections.json")
    predictor = etad.load(tmp_path / "run")
    for video in videos:
        rows = written.rows_of(video.stem)
        found = predictor.predict(video, threshold=0.0)
        assert found
        columns = written.start_seconds[rows], written.end_seconds[rows], written.score[rows]
        assert sorted((each.start_seconds, each.end_seconds, each.score) for each in found) == sorted(zip(*columns))


def test_frames_that_cannot_be_decoded_are_told(
    trained: TrainedSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = write(tmp_path / "whole.mp4", range(60))
    bad = remux(whole, tmp_path / "bad.mp4", change={31: lambda content: bytes(len(content))})
    predictor = etad.load(trained.run)
    predictor.predict(whole)
    assert not caplog.records
    predictor.predict(bad)
    (told,) = [record.message for record in caplog.records if record.name.startswith("etad.pipeline")]
    assert told.startswith(f"{bad}: 1 frame could not be decoded")


def test_what_are_no_features_of_the_run_is_refused(trained: TrainedSet, tmp_path: Path) -> None:
    predictor = etad.load(trained.run)
    channels = predictor.channels
    good = np.zeros((9, channels), np.float32)
    for array, said in ((good.T, "Transpose"), (np.zeros((9, channels + 1)), f"expected \\[snippets, {channels}\\]")):
        with pytest.raises(etad.EtadError, match=said):
            predictor.predict(array, fps=10, stride=4)
    with pytest.raises(etad.EtadError, match="give fps"):
        predictor.predict(good)
    with pytest.raises(etad.EtadError, match="above 0"):
        predictor.predict(good, fps=0, stride=4)
    with pytest.raises(etad.EtadError, match=r"the video lasts 0\.5 s"):
        predictor.predict(good, fps=10, stride=4, duration_seconds=0.5)
    with pytest.raises(etad.EtadError, match="not finite"):
        predictor.predict(np.full_like(good, np.nan), fps=10, stride=4)
    with pytest.raises(etad.EtadError, match="describe features"):
        predictor.predict(trained.videos / "target_0000.mp4", fps=10)
    with pytest.raises(etad.EtadError, match="no such file"):
        predictor.predict(tmp_path / "none.mp4")
    with pytest.raises(etad.EtadError, match=r"no run folder here|no trained detector"):
        etad.load(tmp_path)


def test_a_detector_on_imported_features_takes_arrays_and_says_why_no_videos(
    trained: TrainedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, cache = tmp_path / "arrays", tmp_path / "features.h5"
    folder.mkdir()
    random = np.random.default_rng(0)
    for id in etad.read_annotations(trained.annotations).videos:
        np.save(folder / f"{id}.npy", random.normal(size=(12, 16)).astype(np.float32))
    words = [str(folder), "-o", str(cache), "--fps", "10", "--stride", "6", "--clip-frames", "8"]
    assert run(["import", "features", *words, "--annotations", str(trained.annotations)]) == 0
    options = miniature_e2e.options(trained.annotations, tmp_path / "run", "detect.labels.source=classifier")
    assert run(["detect", *options, "--features", str(cache)]) == 0
    capsys.readouterr()
    predictor = etad.load(tmp_path / "run")
    assert predictor.predict(np.load(next(iter(folder.iterdir()))), fps=10, stride=6, threshold=0.0)
    said = miniature.complaint(["predict", str(trained.videos), "-o", str(tmp_path / "run")], capsys)
    assert "encoder 'external'" in said and "etad.load(run).predict" in said
