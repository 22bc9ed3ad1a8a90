"""`encoder.also`: extracted, checked at use, and refused where a single encoder is trained."""

from pathlib import Path

import numpy as np
import pytest
import torch

from etad.data.cache.cache import FeatureCache
from etad.data.errors import EtadError
from etad.data.video.video import write_video
from etad.extract.encoders.encoder import build_encoder
from etad.extract.weights.load import encoder_checkpoint
from etad.pipeline.cli.main import run
from etad.pipeline.config import load_config
from etad.pipeline.stages.detect import check_cache

SETS = [
    *("clips.num_snippets=3", "clips.clip_frames=4", "clips.resize=[40, 32]", "clips.crop=32"),
    *("encoder.name=tsm_tiny", "encoder.init=random"),
]
JOINED = [*SETS, "encoder.also=['transnetv2']"]


def etad(out: Path, sets: list[str], *words: str) -> int:
    return run([*words, "-o", str(out), *(word for value in sets for word in ("--set", value))])


def test_joined_features_are_extracted_checked_and_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "videos").mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (24, 32, 40, 3), dtype=np.uint8)
    write_video(tmp_path / "videos" / "a.mp4", frames, fps=10)
    out = tmp_path / "run"
    assert etad(out, JOINED, "extract", "--videos", str(tmp_path / "videos")) == 0
    assert etad(out, JOINED, "extract", "--videos", str(tmp_path / "videos")) == 0
    assert "1 there already" in capsys.readouterr().out
    assert run(["verify", str(out / "features.h5")]) == 0
    with FeatureCache(out / "features.h5") as cache:
        assert cache.channels == 128 + 4608
        check_cache(cache, load_config(None, JOINED))
        same = "encoder.also=[{name='transnetv2', resize=[48, 27], crop=[48, 27]}]"
        check_cache(cache, load_config(None, [*SETS, same]))
        other = "encoder.also=[{name='transnetv2', crop=16}]"
        for sets, said in (
            (SETS, r"was extracted with encoder\.also=\['transnetv2'\], the config says \[\]"),
            ([*SETS, other], r"with encoder\.also\.0\.crop=\[48, 27\], the config says 16"),
            ([*JOINED, "encoder.name=tsm_r18"], r"with encoder\.name=tsm_tiny, the config says tsm_r18"),
        ):
            with pytest.raises(EtadError, match=said):
                check_cache(cache, load_config(None, sets))


@pytest.mark.parametrize("stage", ["pretrain", "e2e"])
def test_stages_that_train_an_encoder_refuse_several(
    stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", np.zeros((24, 32, 40, 3), dtype=np.uint8), fps=10)
    (tmp_path / "annotations.json").write_text(
        '{"database": {"a": {"subset": "training", "duration": 2.4, "annotations": '
        '[{"segment": [0.5, 1.5], "label": "x"}]}}}'
    )
    data = ["--videos", str(tmp_path / "videos"), "--annotations", str(tmp_path / "annotations.json")]
    assert etad(tmp_path / "run", [*JOINED, "data.test_subset=training"], stage, *data) == 2
    said = capsys.readouterr().err
    assert "joins features of transnetv2 to those of tsm_tiny" in said and "Set encoder.also=[]" in said


def test_a_config_keeps_joined_encoders_and_anchors_their_files(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[encoder]\nname = 'tsm_tiny'\nalso = ['transnetv2', {name = 'tsm_r18', weights = 'r18.pth'}]\n")
    config = load_config(str(file))
    assert config.encoder.also[1].weights == tmp_path / "r18.pth"
    again = tmp_path / "again.toml"
    again.write_text(config.to_toml())
    assert load_config(str(again)) == config


def test_an_encoder_joined_to_itself_or_without_weights_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", np.zeros((24, 32, 40, 3), dtype=np.uint8), fps=10)
    words = ["extract", "--videos", str(tmp_path / "videos")]
    assert etad(tmp_path / "run", [*SETS, "encoder.also=['tsm_tiny']"], *words) == 2
    assert "encoder.also: tsm_tiny is joined to itself" in capsys.readouterr().err
    torch.save(encoder_checkpoint(build_encoder("tsm_tiny"), name="tsm_tiny"), tmp_path / "tiny.pt")
    sets = [*SETS, "encoder.init=weights", "encoder.also=['tsm_r18']"]
    assert etad(tmp_path / "run", sets, *words, "--weights", str(tmp_path / "tiny.pt")) == 2
    assert "encoder.also: tsm_r18 has no weights. Name their file" in capsys.readouterr().err
