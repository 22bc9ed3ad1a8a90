"""`import features` and `export features`, and a detector that is trained on what was imported."""

import json
import pickle
import re
import shlex
from pathlib import Path

import h5py
import miniature
import numpy as np
import pytest
from conftest import ROOT
from miniature import complaint

from etad.data.cache.cache import FeatureCache
from etad.data.checkpoint import load_checkpoint
from etad.pipeline.cli.main import run

# Sliding windows over snippets at a regular stride; no encoder, no clips.
SETS = [
    "detect.windows=sliding",
    "detect.window_stride=8",
    *(each for each in miniature.SETS if not each.startswith(("encoder.", "clips."))),
]
TIMES = ["--fps", "50", "--stride", "25", "--clip-frames", "50"]


def options(*more: str) -> list[str]:
    return [word for value in [*SETS, *more] for word in ("--set", value)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Features of ten recordings with seven channels, and annotations, which are all that there is."""
    random = np.random.default_rng(0)
    looks = random.normal(size=(3, 7))
    (tmp_path / "npy").mkdir()
    database = {}
    for number in range(10):
        features = random.normal(size=(30 + number, 7))
        start = int(random.integers(2, 12))
        features[start : start + 8] += 2 * looks[number % 3]
        np.save(tmp_path / "npy" / f"r{number}.npy", features.astype(np.float16))
        action = {"segment": [start / 2, start / 2 + 4.0], "label": miniature.LABELS[number % 3]}
        database[f"r{number}"] = {
            "subset": "training" if number < 7 else "validation",
            "duration": (30 + number) / 2 + 0.7,
            "annotations": [action],
        }
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}))
    return tmp_path


def test_imported_features_train_a_detector_without_a_word_of_encoder_or_clips(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, annotations = data / "run" / "features.h5", ["--annotations", str(data / "annotations.json")]
    assert run(["import", "features", str(data / "npy"), "-o", str(cache), *TIMES, *annotations]) == 0
    assert "10 videos, 7 channels, float16, encoder external" in capsys.readouterr().out
    assert run(["check", "-o", str(data / "run"), *annotations, *options()]) == 0
    assert "0 problems" in capsys.readouterr().out
    assert run(["detect", "-o", str(data / "run"), *annotations, *options()]) == 0
    printed = capsys.readouterr().out
    assert "duration" not in printed and "average" in printed
    source = load_checkpoint(data / "run/detect/checkpoints/last.pt")["source"]
    assert source["encoder"] == "external" and source["clips"] == {}

    # The detector infers on features of the same maker, and of no other.
    again = ["detect", "-o", str(data / "again"), *annotations, *options(), "--no-train", "--checkpoint"]
    again += [str(data / "run/detect/checkpoints/last.pt"), "--features"]
    assert run([*again, str(cache)]) == 0
    other = data / "other.h5"
    named = ["--encoder", "i3d"]
    assert run(["import", "features", str(data / "npy"), "-o", str(other), *TIMES, *annotations, *named]) == 0
    capsys.readouterr()
    assert run([*again, str(other)]) == 2
    assert "i3d" in capsys.readouterr().err


def test_a_video_that_cannot_be_imported_is_listed_and_status_1(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(data / "npy" / "r3.npy", np.full((30, 7), np.nan))
    assert run(["import", "features", str(data / "npy"), "-o", str(data / "features.h5"), *TIMES]) == 1
    printed = capsys.readouterr().out
    assert "r3.npy" in printed and "not finite numbers" in printed and "9 videos, 7 channels" in printed


def test_export_says_how_to_import_again(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = data / "features.h5"
    assert run(["import", "features", str(data / "npy"), "-o", str(cache), *TIMES]) == 0
    for layout, out in (("npy", "out"), ("tsp", "out.h5")):
        capsys.readouterr()
        assert run(["export", "features", str(cache), "-o", str(data / out), "--layout", layout]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert printed[0].endswith(f"{out}: 10 videos")
        again = printed[1].removeprefix("import them again with ").split()
        assert run(["import", "features", str(data / out), "-o", str(data / "again.h5"), *again]) == 0
        assert FeatureCache(data / "again.h5").digest == FeatureCache(cache).digest


def foreign_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["r0"] = np.zeros((200, 7))


def array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros((20, 7)))


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"r0": np.zeros((20, 7))}))


@pytest.mark.parametrize("make", [foreign_hdf5, array, pickled, Path.mkdir])
def test_features_of_others_given_to_detect_or_verify_get_the_command_that_imports_them(
    data: Path, capsys: pytest.CaptureFixture[str], make: object
) -> None:
    make(data / "mine")  # type: ignore[operator]
    annotations = ["--annotations", str(data / "annotations.json")]
    for command in (
        ["detect", "-o", str(data / "run"), *annotations, "--features", str(data / "mine")],
        ["verify", "--repair", str(data / "mine")],
    ):
        assert f"import it with `etad import features {data / 'mine'} -o features.h5" in complaint(command, capsys)
    assert (data / "mine").exists() and not (data / "mine.bad").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["import"], "import: name a kind. Known: labels, features"),
        (["import", "feature", "x"], "import: 'feature' is no kind. Did you mean 'features'?"),
        (["export", "features", "x", "-o", "y", "--layout", "hdf5"], "'hdf5' is not one of 'npy', 'tsp'"),
        (["import", "features", "x"], "Missing option '-o'"),
        (["import", "features", "x", "-o", "y", "--fps", "30"], "--stride, --clip-frames not given"),
    ],
)
def test_commands_that_are_half_written_are_told(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert said in capsys.readouterr().err


def test_the_commands_of_the_docs_lead_from_features_and_a_table_to_detections(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = json.loads((data / "annotations.json").read_text())["database"]
    rows = ["video,start,end,label,subset,duration"]
    for id, entry in tree.items():
        (action,) = entry["annotations"]
        subset = {"training": "training", "validation": "test"}[entry["subset"]]
        rows.append(
            f"{id},{action['segment'][0]},{action['segment'][1]},{action['label']},{subset},{entry['duration']}"
        )
    (data / "labels.csv").write_text("\n".join(rows))
    (data / "npy").rename(data / "features")
    monkeypatch.chdir(data)
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "features.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("etad ")]
    assert len(lines) >= 6
    sets = [*SETS, "data.test_subset=test"]
    small = [word for value in sets for word in ("--set", value)]
    for line in lines:
        words = shlex.split(line)[1:]
        status = run([*(small if words[0] in ("check", "detect") else []), *words])
        captured = capsys.readouterr()
        assert status == 0, f"{line}\n{captured.out}\n{captured.err}"
    assert (data / "runs/sbhar/detect/metrics.json").exists() and (data / "tsp.h5").exists()
