"""The stage `detect`: what it takes from the config, and what from a checkpoint."""

from pathlib import Path

import miniature

from etad.pipeline.cli.main import run


def test_a_checkpoint_infers_in_the_number_format_that_the_config_names(tmp_path: Path) -> None:
    cache, annotations = miniature.make(tmp_path)
    trained, again = tmp_path / "trained", tmp_path / "again"
    checkpoint = ["--no-train", "--checkpoint", str(trained / "detect" / "checkpoints" / "last.pt")]

    def detections(folder: Path, precision: str, *more: str) -> bytes:
        options = miniature.set_options("detect.training.epochs=1", f"detect.precision={precision}")
        data = ["--features", str(cache), "--annotations", str(annotations)]
        assert run(["detect", "-o", str(folder), *data, *options, *more]) == 0
        return (folder / "detect" / "detections.json").read_bytes()

    whole = detections(trained, "float32")
    assert detections(again, "bfloat16", *checkpoint) != whole
    assert detections(again, "float32", *checkpoint) == whole
