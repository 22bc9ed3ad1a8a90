"""`etad reproduce sbhar` on miniatures: folds by subject, done once, measured as the published figures are."""

import json
from pathlib import Path

import miniature
import numpy as np
import pytest

from etad.data.cache.cache import FeatureCache, pack, write_part
from etad.pipeline.cli.main import run
from etad.pipeline.experiments.sbhar import FoldResult, LeaveOneOut


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects with two recordings each, in a cache and annotations of their own."""
    folder = tmp_path_factory.mktemp("sbhar")
    cache, annotations = miniature.make(folder, num_videos=8)
    database = json.loads(annotations.read_text())["database"]
    names = [f"exp0{number}_user0{1 + number // 2}" for number in range(6)]
    named = dict(zip([id for id, entry in database.items() if entry["annotations"]], names))
    for number, id in enumerate(named):  # each subject shows both classes
        database[id]["annotations"][0]["label"] = miniature.LABELS[number % 2]
    with FeatureCache(cache) as read:
        for id, name in named.items():
            meta = miniature.meta(database[id]["duration"])
            write_part(folder / "sbhar.h5", name, read.read(id), meta, "float16")
    pack(folder / "sbhar.h5")
    (folder / "sbhar.json").write_text(json.dumps({"database": {named[id]: database[id] for id in named}}))
    return folder


def command(data: Path, *more: str) -> list[str]:
    options = miniature.set_options("detect.training.epochs=1", "detect.windows=rescale", "data.test_subset=test")
    paths = ["--features", str(data / "sbhar.h5"), "--annotations", str(data / "sbhar.json")]
    return ["reproduce", "sbhar", "-o", str(data / "folds"), "--jobs", "1", *paths, *options, *more]


def test_each_subject_is_left_out_once_and_what_is_done_is_not_done_again(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command(data)) == 0
    printed = capsys.readouterr().out
    assert "3 folds, one subject left out in each" in printed and "ActionFormer, published" in printed
    found = json.loads((data / "folds/sbhar.json").read_text())
    assert list(found["folds"]) == ["01", "02", "03"]
    split = json.loads((data / "folds/user02/annotations.json").read_text())["database"]
    assert {id for id, entry in split.items() if entry["subset"] == "test"} == {"exp02_user02", "exp03_user02"}
    assert {entry["subset"] for id, entry in split.items() if "user02" not in id} == {"training"}
    detected = json.loads((data / "folds/user02/detect/detections.json").read_text())["results"]
    assert set(detected) == {"exp02_user02", "exp03_user02"}
    trained = {path: path.stat().st_mtime_ns for path in (data / "folds").rglob("last.pt")}
    assert len(trained) == 3
    assert run(command(data)) == 0
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert json.loads((data / "folds/sbhar.json").read_text()) == found
    told = (data / "folds/sbhar.md").read_text()
    assert "`etad reproduce sbhar --features FILE --annotations FILE --set encoder.name=tsm_tiny" in told
    assert "--set detect.training.epochs=1" in told and str(data) not in told


def test_figures_are_means_over_folds_and_spread_is_of_the_folds() -> None:
    folds = [
        FoldResult(subject, np.full(5, value), np.full(5, value + 0.1), ())
        for subject, value in (("1", 0.5), ("2", 0.7))
    ]
    rows = LeaveOneOut(tuple(folds), (np.full(5, 0.4), np.full(5, 0.3))).rows()
    assert rows[0][1:] == ("70.0",) * 5 + ("70.0 +- 14.1",)
    assert rows[1][-1] == "60.0 +- 14.1" and rows[2][-1] == "30.0" and rows[3][-1] == "40.0"


def test_recordings_without_a_subject_and_other_data_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = json.loads((data / "sbhar.json").read_text())["database"]
    nobody = tmp_path / "nobody.json"
    nobody.write_text(json.dumps({"database": {f"v{number}": entry for number, entry in enumerate(tree.values())}}))
    assert run([*command(data), "--annotations", str(nobody)]) == 2
    said = capsys.readouterr().err
    assert "6 ids without a subject: v0" in said and "exp01_user01" in said
    for place in ("whole-set.json", "user02/annotations.json"):
        mine = tmp_path / "own" / place
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.write_bytes((data / "sbhar.json").read_bytes())
        assert run([*command(data), "-o", str(tmp_path / "own"), "--annotations", str(mine)]) == 2
        assert "annotations of this name are written there with other subsets" in capsys.readouterr().err
        assert mine.read_bytes() == (data / "sbhar.json").read_bytes()
        mine.unlink()
    alone = tmp_path / "alone.json"
    alone.write_text(json.dumps({"database": {id: entry for id, entry in tree.items() if "user01" in id}}))
    assert run([*command(data), "--annotations", str(alone)]) == 2
    assert f"{alone}: has recordings of 1 subject, so none" in capsys.readouterr().err
    assert run(["reproduce", "sbhar", "-o", str(tmp_path)]) == 2
    assert "sbhar takes --features CACHE" in capsys.readouterr().err
    for more, advice in ((("--seeds", "2"), "leave --seeds out"), (("--set", "detect.tious=[0.5]"), "tious out")):
        assert run(command(data, *more)) == 2
        assert advice in capsys.readouterr().err
