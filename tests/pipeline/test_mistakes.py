"""A user's mistake is one sentence and status 2; other ways out have a status of their own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import miniature
import numpy as np
import pytest
from miniature import complaint

from etad.data.cache.cache import write_part
from etad.data.errors import EtadError
from etad.pipeline.cli import main as cli
from etad.pipeline.config import load_config
from reference.feature_samples import reseal


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A run folder with a cache and annotations, ready to detect."""
    miniature.make(tmp_path)
    return tmp_path


def detect(folder: Path, *sets: str, more: tuple[str, ...] = ()) -> list[str]:
    options = miniature.set_options("detect.training.epochs=1", *sets)
    return ["detect", "-o", str(folder), "--annotations", str(folder / "annotations.json"), *options, *more]


def edit(folder: Path, change: Callable[[dict[str, dict]], object]) -> None:
    path = folder / "annotations.json"
    tree = json.loads(path.read_text())
    change(tree["database"])
    path.write_text(json.dumps(tree))


@pytest.mark.parametrize(
    ("key", "found", "expected"),
    [
        ("encoder.name", "tsm_tiny", "tsm_r50"),
        ("clips.clip_frames", "8", "16"),
        ("clips.frame_step", "1", "2"),
        ("clips.fps", "10.0", "25.0"),
        ("clips.num_snippets", "16", "32"),
    ],
)
def test_a_cache_that_contradicts_the_config_is_refused_with_both_values(
    data: Path, capsys: pytest.CaptureFixture[str], key: str, found: str, expected: str
) -> None:
    said = complaint(detect(data, f"{key}={expected}"), capsys)
    assert f"was extracted with {key}={found}, the config says {expected}" in said
    assert "features.h5: video 'v00'" in said


def test_a_sliding_stride_that_contradicts_the_config_is_refused(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(detect(data, "clips.layout=sliding", "clips.stride_frames=4"), capsys)
    assert "clips.stride_frames=" in said
    assert "the config says 4" in said


def test_features_of_another_width_are_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(detect(data, "detect.in_channels=512"), capsys)
    assert "features have 16 channels, the detector expects 512" in said
    assert "set detect.in_channels=16" in said


def test_features_that_are_not_finite_or_of_a_wrong_shape_name_file_and_video(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(data / "features.h5", "r+") as file:
        file["videos/v03/features"][2, 1] = np.nan
    said = complaint(detect(data), capsys)
    assert "features.h5" in said
    assert "v03" in said
    with pytest.raises(EtadError, match="x"):
        write_part(data / "other.h5", "x", np.zeros((4, 2, 2), np.float32), miniature.meta(20.0), "float16")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["v00"].update(duration=0), "video 'v00': duration is 0 s. Expected a positive"),
        (lambda d: d["v00"].update(duration=-1), "video 'v00': duration is -1 s"),
        (lambda d: [v.update(subset="testing") for v in d.values()], "subset 'training' is empty"),
        (
            lambda d: (
                d["v09"].update(annotations=[{"segment": [1, 5], "label": "fly"}])
                or d["v09"].update(subset="validation")
            ),
            "label 'fly' is none of the 3 known classes",
        ),
        (lambda d: [v.update(annotations=[]) for v in d.values()], "has an action, so nothing can be learnt"),
    ],
)
def test_bad_annotations_are_named(
    data: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, dict]], object],
    message: str,
) -> None:
    edit(data, change)
    assert message in complaint(detect(data), capsys)


def test_segments_outside_their_video_are_listed_and_the_rest_is_trained_on(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [{"segment": [900, 901], "label": "run"}, {"segment": [-5, 900], "label": "run"}]
    edit(data, lambda d: d["v00"].update(annotations=wrong))
    edit(data, lambda d: d["v08"].update(annotations=wrong[:1]))
    assert cli.run(detect(data)) == 0
    out = capsys.readouterr().out
    assert "training: 1 segment dropped as outside the video (v00), 1 segment cut by more than 1 s (v00)" in out
    assert "validation: 1 segment dropped as outside the video (v08)" in out
    assert "1 action of 1 video lies past the video's annotated end, counted as annotated: v08 (1)." in out


def test_missing_files_are_named(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.h5: there is no feature cache" in complaint(
        detect(data, more=("--features", str(tmp_path / "nowhere.h5"))), capsys
    )
    assert "there is no such checkpoint" in complaint(
        detect(data, more=("--no-train", "--checkpoint", str(tmp_path / "none.pt"))), capsys
    )
    assert "none.json: there is no such file of annotations" in complaint(
        ["detect", "-o", str(data), "--annotations", str(tmp_path / "none.json")], capsys
    )
    assert "no annotations: name the run that has them with -o RUN" in complaint(
        ["detect", "-o", str(tmp_path / "new")], capsys
    )
    assert "no videos: name their folder" in complaint(["extract", "-o", str(tmp_path / "new")], capsys)
    assert "give --scores FILE" in complaint(detect(data, "detect.labels.source=scores"), capsys)


def test_an_unknown_key_command_or_preset_gets_the_nearest_known_one(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Did you mean 'epochs'?" in complaint(detect(data, "detect.training.epoch=1"), capsys)
    assert "Did you mean 'thumos14'?" in complaint(["detect", "-c", "thumos", "-o", str(data)], capsys)
    assert cli.run(["detct"]) == 2
    assert "there is no command 'detct'. Did you mean 'detect'?" in capsys.readouterr().err
    assert cli.run(["detect"]) == 2
    assert "no run folder: name one with -o RUN" in capsys.readouterr().err


def test_no_weights_are_never_random_weights(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = data / "videos"
    videos.mkdir()
    (videos / "a.mp4").write_bytes(b"no video")
    said = complaint(["extract", "-o", str(data / "run"), "--videos", str(videos)], capsys)
    assert "encoder tsm_r50 has no weights: give --weights FILE" in said
    assert "torchvision" in said
    assert not (data / "run" / "features.h5").exists()


def test_a_run_folder_of_a_contradicting_config_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(detect(data)) == 0
    capsys.readouterr()
    said = complaint(detect(data, "detect.bins=16"), capsys)
    assert "this run's `detect` was made with another config: detect.bins is 16, was 8" in said
    # What only says how a run goes, or what is done with its predictions, may change.
    assert cli.run(detect(data, "detect.inference.max_detections=5", "workers=0")) == 0
    assert "training skipped" in capsys.readouterr().out


def test_features_of_other_weights_do_not_pass_for_those_trained_on(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(detect(data)) == 0
    capsys.readouterr()
    with h5py.File(data / "features.h5", "r+") as file:
        for group in file["videos"].values():
            group.attrs["weights_sha256"] = "1" * 64
        reseal(file)
    assert "does not go with what there is now: features of another kind" in complaint(detect(data), capsys)


def test_what_can_be_known_beforehand_is_said_beforehand(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = ("--scores", str(tmp_path / "none.json"))
    assert "none.json" in complaint(detect(data, more=scores), capsys)
    assert "detect.tious" in complaint(detect(data, "detect.tious=[1.5]"), capsys)
    assert "detect.inference.sigma" in complaint(detect(data, "detect.inference.sigma=0.001"), capsys)
    assert not (data / "detect").exists()


def test_a_later_stage_keeps_what_an_earlier_one_was_told_of_the_data(data: Path) -> None:
    videos = data / "videos"
    assert cli.run(detect(data, f'data.videos="{videos}"')) == 0
    assert cli.run(detect(data)) == 0
    config = load_config(str(data / "config.toml"))
    assert (config.data.videos, config.data.annotations) == (videos, data / "annotations.json")


def test_a_run_folder_that_is_a_file_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data / "file"
    path.write_text("")
    arguments = ["detect", "-o", str(path), "--features", str(data / "features.h5")]
    arguments += ["--annotations", str(data / "annotations.json"), *miniature.set_options()]
    assert "cannot be a run folder" in complaint(arguments, capsys)


def test_a_worker_that_reads_bad_features_says_so_in_one_sentence(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(data / "features.h5", "r+") as file:
        file["videos/v03/features"][2, 1] = np.nan
    said = complaint(detect(data, "detect.training.memory_gib=0", "workers=1"), capsys)
    assert "v03" in said


def test_missing_videos_are_listed_counted_and_give_status_1(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(data, lambda d: d.update(lost={"subset": "training", "duration": 9, "annotations": []}))
    assert cli.run(detect(data)) == 1
    assert "training: 1 video left out: no features (lost)" in capsys.readouterr().out


def test_repairs_are_listed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def soil(database: dict[str, dict]) -> None:
        entry = database["v00"]
        end = entry["duration"]
        entry["annotations"] += [{"segment": [end - 4, end + 0.5], "label": "run"}, {"segment": [1, 1], "label": "run"}]
        entry["annotations"].append(entry["annotations"][0])

    edit(data, soil)
    assert cli.run(detect(data)) == 0
    out = capsys.readouterr().out
    assert "1 segment clamped (v00)" in out
    assert "1 segment dropped empty (v00)" in out
    assert "1 segment dropped duplicate (v00)" in out


def test_our_own_errors_leave_one_line_and_a_traceback_in_a_file(
    monkeypatch: pytest.MonkeyPatch, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("etad.pipeline.stages.inputs.read_data", broken)
    assert cli.run(detect(data)) == 70
    err = capsys.readouterr().err.strip()
    assert err.startswith("etad: our own error (ZeroDivisionError: oops). Please report ")
    assert "ZeroDivisionError" in Path(err.split("report ")[1].rstrip(".")).read_text()


def test_an_interruption_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("etad.pipeline.stages.inputs.read_data", interrupted)
    assert cli.run(detect(data)) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_help_needs_no_torch_and_every_command_has_an_example() -> None:
    code = (
        "import sys; from etad.pipeline.cli import main as cli; status = cli.run(['--help']); "
        "heavy = {'torch', 'numpy', 'pydantic', 'matplotlib', 'h5py', 'av'} & set(sys.modules); "
        "print(status, heavy, file=sys.stderr); sys.exit(bool(heavy) or status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    context = cli.cli.make_context("etad", ["check"], resilient_parsing=True)
    for name in cli.cli.list_commands(context):
        command = cli.cli.get_command(context, name)
        assert command is not None
        assert command.help, name
        assert "Example:\n" in command.help, name
        assert f"etad {name}" in command.help, name
        assert name in done.stdout
