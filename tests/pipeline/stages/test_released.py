"""A run that infers with a detector as its authors released it."""

from pathlib import Path

import miniature
import pytest
import torch

from etad.data.annotations import read_annotations
from etad.data.cache.cache import FeatureCache
from etad.data.detections import read_detections
from etad.data.digest import file_sha256
from etad.data.errors import EtadError
from etad.extract.weights.file import WeightsFile
from etad.extract.weights.layouts import manifest, published_as, recognise
from etad.extract.weights.load import _fitting, _reports, describe
from etad.pipeline.cli.main import run
from etad.pipeline.config import load_config
from etad.pipeline.e2e.checks import check_detector
from etad.pipeline.e2e.setup import find_detector
from etad.pipeline.predict.trained import load_run
from etad.pipeline.run_folder import RunFolder
from etad.pipeline.stages.detect import check_features, load_any_detector
from reference.encoders import fabricate
from reference.layout_writer import Writer
from reference.published_layouts import etad_detector

SETS = ["encoder.name=r2plus1d_34", "detect.labels.source=classifier", "detect.preset=paper"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = Writer()
    etad_detector(out, "base_detector.", in_channels=miniature.CHANNELS, bins=4, stages=2)
    state = fabricate({name: tuple(shape) for name, shape in out.tensors.items()}, seed=0)
    for name, tensor in state.items():
        if ".reg_" in name:  # else random weights turn most proposals round, which no released detector does
            tensor *= 0.2
    path = tmp_path_factory.mktemp("released") / "epoch_5.pth.tar"
    torch.save({"epoch": 5, "state_dict": state}, path)
    return path


def detect(folder: Path, checkpoint: Path, *sets: str) -> list[str]:
    data = ["--features", str(folder / "features.h5"), "--annotations", str(folder / "annotations.json")]
    words = ["detect", "-o", str(folder / "run"), *data, "--no-train", "--checkpoint", str(checkpoint)]
    return [*words, *miniature.set_options(*SETS, *sets)]


def test_it_infers_by_the_preset_release_and_labels_by_a_classifier_of_the_run(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.make(tmp_path, encoder="r2plus1d_34")
    assert run(detect(tmp_path, checkpoint)) == 0
    assert "is the authors' release (preset=release, bins=4)" in capsys.readouterr().out
    found = read_detections(tmp_path / "run" / "detect" / "detections.json")
    assert len(found.video) and set(found.labels) <= set(miniature.LABELS)
    assert (tmp_path / "run" / "detect" / "metrics.json").exists()
    said = miniature.complaint(detect(tmp_path, checkpoint, "detect.labels.source=branch"), capsys)
    assert "the authors' detector has no class branch" in said


def test_features_that_it_was_not_trained_on_are_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.make(tmp_path, num_videos=6)
    words = detect(tmp_path, checkpoint, "encoder.name=tsm_tiny")
    assert "was trained on features of r2plus1d_34" in miniature.complaint(words, capsys)
    config = load_config(None, SETS)
    trained = load_any_detector(checkpoint, config, read_annotations(tmp_path / "annotations.json"))
    (tmp_path / "imported").mkdir()
    path, _ = miniature.make(tmp_path / "imported", num_videos=6, encoder="external", transform={"imported": "npy"})
    with FeatureCache(path) as cache:
        check_features(trained, cache, checkpoint)
        trained.state["in_channels"] = 512
        with pytest.raises(
            EtadError,
            match=r"16 channels, .* was trained on 512\. .* or name the features",
        ):
            check_features(trained, cache, checkpoint)


def test_one_that_was_trained_end_to_end_wants_the_features_of_its_own_encoder(
    checkpoint: Path, tmp_path: Path
) -> None:
    trained = load_any_detector(checkpoint, load_config(None, SETS), None)
    trained.state["encoder"] = {}
    digests = {"others": "0" * 64, "own": file_sha256(checkpoint)}
    for name, digest in digests.items():
        (tmp_path / name).mkdir()
        path, _ = miniature.make(tmp_path / name, num_videos=6, encoder="r2plus1d_34", weights_sha256=digest)
        with FeatureCache(path) as cache:
            if name == "own":
                check_features(trained, cache, checkpoint)
            else:
                with pytest.raises(EtadError, match=r"its own encoder: `etad extract --weights .*epoch_5.pth.tar`"):
                    check_features(trained, cache, checkpoint)


def test_new_videos_are_detected_without_labels_by_the_encoder_that_is_named(checkpoint: Path, tmp_path: Path) -> None:
    loaded = load_run(tmp_path, checkpoint, load_config(None, [*SETS, "encoder.init=random"]))
    assert not loaded.has_labels and loaded.settings.preset == "release"
    encoders = loaded.encoders()
    assert encoders.name == "r2plus1d_34" and encoders.digests == "random-seed-0"


def test_its_weights_are_named_with_what_to_do_with_them(checkpoint: Path, tmp_path: Path) -> None:
    text = describe(checkpoint)
    assert "a detector: ETAD as its authors released it" in text
    assert f"to infer with it: etad detect --no-train --checkpoint {checkpoint}" in text
    with torch.device("meta"):
        alone, both = (
            {key: torch.empty(shape) for key, shape in manifest(kind).items()}
            for kind in ("etad_detector", "etad_end_to_end")
        )
    assert published_as(alone) == "etad_detector" and recognise(alone) is None
    assert published_as(both) == "etad_end_to_end"
    file, source = WeightsFile(tmp_path / "both.pth.tar", 1, "0" * 64, both, None), recognise(both)
    assert source.kind == "end-to-end trained R(2+1)D"
    assert _fitting(_reports(file, source), file, source) == ["r2plus1d_34"]
    opentad = {"module.roi_head.proposal_heads.0.iou_head.fc.weight": torch.zeros(2), "module.b": torch.zeros(2)}
    torch.save({"state_dict": opentad}, tmp_path / "opentad.pth")
    assert "a detector: OpenTAD's ETAD, another network than the paper's" in describe(tmp_path / "opentad.pth")


def test_end_to_end_training_starts_from_it_by_the_preset_release_alone(checkpoint: Path, tmp_path: Path) -> None:
    miniature.make(tmp_path, num_videos=6)
    annotations = read_annotations(tmp_path / "annotations.json")
    sizes = [*SETS[:2], "detect.num_stages=2", "detect.bins=4"]
    for preset in ("paper", "release"):
        config = load_config(None, [*sizes, f"detect.preset={preset}"])
        _, trained = find_detector(config, RunFolder(tmp_path), checkpoint, annotations)
        how = {"encoder": "r2plus1d_34", "channels": miniature.CHANNELS, "path": checkpoint}
        if preset == "release":
            check_detector(trained, config.detect, miniature.LABELS, **how)
            with pytest.raises(EtadError, match="takes features of 16 channels, the encoder gives 512"):
                check_detector(trained, config.detect, miniature.LABELS, **{**how, "channels": 512})
        else:
            with pytest.raises(EtadError, match=r"trained with detect.preset=release, the config says paper"):
                check_detector(trained, config.detect, miniature.LABELS, **how)
