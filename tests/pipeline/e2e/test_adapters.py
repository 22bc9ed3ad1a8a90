"""Adapters end to end: they alone are trained and stored, and the weights beside them are found or asked for."""

import shutil
from collections.abc import Callable
from pathlib import Path

import miniature
import pytest
import torch
from miniature_e2e import SHORT, changed, options, run, trainer, weights

from etad.data.checkpoint import load_checkpoint, save_checkpoint
from etad.data.digest import file_sha256
from etad.data.errors import EtadError
from etad.extract.encoders.encoder import build_encoder
from etad.extract.weights.load import describe, encoder_checkpoint, load_weights
from etad.pipeline.cli.main import run as etad
from etad.pipeline.predict.trained import load_run

SERIES = ("encoder.name=videomae_tiny", "encoder.adapter=series", "encoder.frozen_stages=1", "clips.clip_frames=4")
SIDE = (*SERIES, "encoder.adapter=side")


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights to stand beside."""
    torch.manual_seed(5)
    encoder = build_encoder("videomae_tiny")
    return save_checkpoint(
        tmp_path_factory.mktemp("base") / "base.pt", encoder_checkpoint(encoder, name="videomae_tiny")
    )


@pytest.mark.parametrize("sets", [SERIES, SIDE], ids=["series", "side"])
def test_an_interrupted_run_of_adapters_resumes_to_the_same_weights(
    sets: tuple[str, ...], dataset: Path, tmp_path: Path
) -> None:
    often = (*sets, "e2e.checkpoint_seconds=1e-9")
    whole = trainer(dataset, tmp_path / "whole", *often)
    before = weights(whole)
    trained = {name for name, each in whole.encoder.named_parameters() if each.requires_grad}
    assert len(trained) == 3 * 9 and all(".adapter." in name for name in trained)
    held = {id(each) for group in whole.optimizer.param_groups for each in group["params"]}
    assert not held & {id(each) for name, each in whole.encoder.named_parameters() if name not in trained}
    whole.run()
    after = weights(whole)
    assert {name for name in after if name.startswith("encoder") and not torch.equal(before[name], after[name])} <= {
        f"encoder.{name}" for name in trained
    }
    assert changed(before, after) == {f"encoder.stages.{stage}" for stage in (2, 3, 4)} | {"detector"}

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        trainer(dataset, tmp_path / "parts", *often).run(stop)
    again = trainer(dataset, tmp_path / "parts", *often)
    assert again.resume()
    again.run()
    assert changed(after, weights(again)) == set()
    saved = load_checkpoint(again.last)
    assert all(".adapter." in name for name in saved["encoder"]) and len(saved["encoder"]) == 4 * 9


def test_a_run_stores_adapters_alone_and_the_other_stages_find_the_weights_beside_them(
    base: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = (*SERIES, *SHORT, "encoder.init=weights", f"encoder.weights={base}", "extract.store_dtype=float32")
    cache = tmp_path / "tuned.h5"
    run(dataset, tmp_path / "run", *sets, features=cache)
    tuned = tmp_path / "run" / "e2e" / "encoder.pt"
    assert tuned.stat().st_size < 0.15 * base.stat().st_size

    # It says what it is, and which file to bring.
    text = describe(tuned)
    assert "series adapters of encoder videomae_tiny" in text
    assert f"with sha256 {file_sha256(base)}, which lay at {base}" in text

    # `extract` makes the very features that training left, under the tuned file's own digest.
    (tmp_path / "again").mkdir()
    shutil.copy(cache, tmp_path / "again" / "features.h5")
    words = options(dataset, tmp_path / "again", *sets)
    assert etad(["extract", *words, "--weights", str(tuned)]) == 0
    assert "0 videos extracted, 6 there already" in capsys.readouterr().out
    assert etad(["extract", *options(dataset, tmp_path / "fresh", *sets), "--weights", str(tuned)]) == 0
    assert "series adapters, sha256" in capsys.readouterr().out

    # `predict` finds the weights by what the run noted, and asks for them by digest where they are gone.
    encoders = load_run(tmp_path / "run").encoders()
    state = encoders.first.state_dict()
    expected = load_checkpoint(base)["encoder"] | load_checkpoint(tuned)["encoder"]
    assert state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in state)
    video = str(next((dataset.parent / "videos").iterdir()))
    moved = base.rename(tmp_path / "moved.pt")
    said = miniature.complaint(["predict", video, "-o", str(tmp_path / "run")], capsys)
    assert file_sha256(moved) in said and f"{base}: no such file" in said
    # Other weights are told from none, and by their digest.
    torch.manual_seed(6)
    wrong = save_checkpoint(tmp_path / "6.pt", encoder_checkpoint(build_encoder("videomae_tiny"), name="videomae_tiny"))
    said = miniature.complaint(["predict", video, "-o", str(tmp_path / "run"), "--weights", str(wrong)], capsys)
    assert f"{wrong}: other weights, sha256 {file_sha256(wrong)}" in said and "Set --weights to them" in said
    assert etad(["predict", video, "-o", str(tmp_path / "run"), "--weights", str(moved)]) == 0
    moved.rename(base)


def test_adapters_are_refused_beside_other_weights_and_where_the_config_says_otherwise(
    base: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = (*SERIES, "encoder.init=weights", f"encoder.weights={base}")
    torch.manual_seed(6)
    encoder = build_encoder("videomae_tiny", adapter="series")
    encoder.loaded_from = (file_sha256(base), str(base))
    adapters = save_checkpoint(tmp_path / "a.pt", encoder_checkpoint(encoder, name="videomae_tiny"))
    for changed_sets, said in (
        ((), "trained beside other weights"),
        (("encoder.adapter=side",), "adapters of kind series, the config says side"),
        (("encoder.adapter=none",), "Set encoder.adapter='series'"),
        (("encoder.name=videomae_s", "encoder.weights="), "adapters of encoder videomae_tiny"),
    ):
        given = options(dataset, tmp_path / "run", *sets, *changed_sets)
        if changed_sets and "videomae_s" in changed_sets[0]:
            given = options(dataset, tmp_path / "run", *SERIES, changed_sets[0], "encoder.init=weights")
        assert said in miniature.complaint(["extract", *given, "--weights", str(adapters)], capsys)
    with pytest.raises(EtadError, match=r"these are adapters, not the weights beside them"):
        load_weights(build_encoder("videomae_tiny"), adapters, name="videomae_tiny")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors, state: tensors.popitem(), "do not fit encoder videomae_tiny"),
        (lambda tensors, state: tensors.update(more=torch.zeros(1)), "do not fit encoder videomae_tiny"),
        (lambda tensors, state: next(iter(tensors.values())).fill_(torch.nan), "hold NaN or infinity"),
        (lambda tensors, state: state.update(encoder_name="foo"), "etad has no encoder 'foo'"),
        (lambda tensors, state: state["frozen"].pop("digest"), "does not tell the weights"),
    ],
)
def test_adapters_that_nothing_takes_are_not_recommended(
    change: Callable[[dict, dict], object], said: str, tmp_path: Path
) -> None:
    encoder = build_encoder("videomae_tiny", adapter="series")
    state = encoder_checkpoint(encoder, name="videomae_tiny")
    good = describe(save_checkpoint(tmp_path / "good.pt", state))
    assert "to use it" in good and "cannot be used" not in good
    change(state["encoder"], state)
    bad = save_checkpoint(tmp_path / "bad.pt", state)
    try:
        told = describe(bad)
    except EtadError as error:
        told = str(error)
    assert said in told and "to use it" not in told


def test_pretrained_adapters_go_on_end_to_end_beside_the_same_weights(
    base: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = (*SIDE, *SHORT, "encoder.init=weights", "pretrain.steps=2", "pretrain.batch_clips=2")
    sets += ("pretrain.held_out_clips=2",)
    words = options(dataset, tmp_path, *sets)
    assert etad(["pretrain", *words, "--weights", str(base)]) == 0
    saved = load_checkpoint(tmp_path / "pretrain" / "encoder.pt")
    assert saved["adapter"] == "side" and saved["frozen"]["sha256"] == file_sha256(base)
    assert any(tensor.any() for name, tensor in saved["encoder"].items() if name.endswith("up.weight"))
    assert etad(["pretrain", *words, "--weights", str(base)]) == 0
    capsys.readouterr()
    assert etad(["e2e", *words]) == 0
    assert f"{tmp_path / 'pretrain' / 'encoder.pt'}: side adapters" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "e2e" / "encoder.pt")["frozen"]["sha256"] == file_sha256(base)
