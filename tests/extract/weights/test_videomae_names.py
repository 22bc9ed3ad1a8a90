from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from etad.data.errors import EtadError
from etad.extract.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder, build_encoder
from etad.extract.encoders.videomae import sine_table, videomae_stages
from etad.extract.weights.file import WeightsFile
from etad.extract.weights.layouts import manifest, recognise
from etad.extract.weights.load import WeightsReport, _match, describe, load_weights
from reference import encoders as plain
from reference.layout_writer import Writer
from reference.published_videomae import authors_blocks

State = plain.State
# Names of the encoders that each published file covers.
FITS = {
    "mcg_videomae_s": ["videomae_s"],
    "mcg_videomae_b": ["videomae_b", "videomae_v2_b"],
    "mcg_videomae_b_pretraining": ["videomae_b", "videomae_v2_b"],
    "opengvlab_videomae_v2_b": ["videomae_v2_b", "videomae_b"],
    "mmaction2_videomae_b": ["videomae_b"],
    "mmaction2_videomae_l": ["videomae_l"],
    "huggingface_videomae_b": ["videomae_b"],
    "huggingface_videomae_l": ["videomae_l"],
    "huggingface_videomae_b_pretraining": ["videomae_b"],
}
C, DEPTH, HEADS = 16, 8, 2


def small(adapter: str = "none") -> Encoder:
    """Eight blocks of 16 channels for clips of 4 frames of 32 pixels."""
    stages = videomae_stages(channels=C, depth=DEPTH, heads=HEADS, grid=2, adapter=adapter)
    encoder = Encoder(stages, channels=C, mean=IMAGENET_MEAN, std=IMAGENET_STD, adapter=adapter)
    return encoder.freeze(4).eval()


def of_authors() -> State:
    """Weights of such an encoder as its authors would publish them, with a classifier."""
    out = Writer()
    out.tubelets("patch_embed.proj", C)
    authors_blocks(out, "", depth=DEPTH, channels=C, fc=("fc1", "fc2"))
    out.layer_norm("fc_norm", C)
    out.linear("head", 5, C)
    state = plain.fabricate({name: tuple(shape) for name, shape in out.tensors.items()}, seed=0)
    return {name: tensor * (3 if tensor.ndim == 2 else 1) for name, tensor in state.items()}


def of_mmaction2(state: State) -> State:
    renamed = {"backbone.pos_embed": sine_table(8, C)[None]}
    for name, tensor in state.items():
        for old, new in (("patch_embed.proj", "patch_embed.projection"), ("fc1", "layers.0.0"), ("fc2", "layers.1")):
            name = name.replace(old, new)
        renamed[f"cls_head.fc_cls{name[4:]}" if name.startswith("head") else f"backbone.{name}"] = tensor
    return renamed


def of_hugging_face(state: State, *, biases: str = "old", bare: bool = False) -> State:
    renamed = {}
    for name, tensor in state.items():
        for old, new in (
            ("patch_embed.proj", "videomae.embeddings.patch_embeddings.projection"),
            ("head.", "classifier."),
            ("blocks.", "videomae.encoder.layer."),
            ("attn.proj", "attention.output.dense"),
            ("mlp.fc1", "intermediate.dense"),
            ("mlp.fc2", "output.dense"),
            ("norm1", "layernorm_before"),
            ("norm2", "layernorm_after"),
        ):
            name = name.replace(old, new)
        if name.endswith("attn.qkv.weight"):
            parts = zip(("query", "key", "value"), tensor.chunk(3))
            renamed |= {name.replace("attn.qkv", f"attention.attention.{part}"): each for part, each in parts}
            continue
        new_bias = {"q_bias": "query.bias", "v_bias": "value.bias"}
        *_, last = name.split(".")
        if last in new_bias:
            name = name.replace(f"attn.{last}", f"attention.attention.{last if biases == 'old' else new_bias[last]}")
        renamed[name] = tensor
    if bare:
        renamed = {name.removeprefix("videomae."): each for name, each in renamed.items() if "fc_norm" not in name}
    return renamed


def of_pre_training(state: State) -> State:
    kept = {f"encoder.{name}": each for name, each in state.items() if not name.startswith(("head", "fc_norm"))}
    decoder = {"decoder.blocks.0.attn.q_bias": torch.ones(4), "encoder_to_decoder.weight": torch.ones(4, C)}
    return kept | decoder | {"encoder.norm.weight": torch.ones(C), "mask_token": torch.zeros(1, 1, 4)}


def of_opentad(state: State) -> State:
    inner = {name: each for name, each in of_mmaction2(state).items() if not name.startswith("cls_head")}
    outer = {f"module.backbone.model.{name}": each for name, each in inner.items()}
    for number in range(DEPTH):
        adapter = f"module.backbone.model.backbone.blocks.{number}.adapter"
        shapes = {"dwconv.weight": (4, 1, 3), "dwconv.bias": (4,), "conv.weight": (4, 4, 1), "conv.bias": (4,)}
        shapes |= {"down_proj.weight": (4, C), "down_proj.bias": (4,), "up_proj.weight": (C, 4), "up_proj.bias": (C,)}
        shapes |= {"gamma": (1,)}
        outer |= {f"{adapter}.{name}": torch.full(shape, 0.1) for name, shape in shapes.items()}
    return outer | {"module.rpn_head.cls_head.weight": torch.ones(2, 3, 3)}


SPELLINGS: dict[str, tuple[Callable[[State], State], str]] = {
    "authors": (lambda state: state, "MCG-NJU VideoMAE"),
    "v2 at hugging face": (lambda state: {f"model.{name}": each for name, each in state.items()}, "MCG-NJU VideoMAE"),
    "mmaction2": (of_mmaction2, "MMAction2 VideoMAE"),
    "opentad": (of_opentad, "OpenTAD VideoMAE with adapters"),
    "hugging face": (of_hugging_face, "Hugging Face VideoMAE"),
    "hugging face, new": (lambda state: of_hugging_face(state, biases="new"), "Hugging Face VideoMAE"),
}


def loaded(state: State, folder: Path, *, adapter: str = "none") -> tuple[Encoder, WeightsReport]:
    torch.save({"module": state}, folder / "weights.pth")
    encoder = small(adapter)
    return encoder, load_weights(encoder, folder / "weights.pth", name="videomae_s")


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def expected(clips: torch.Tensor) -> torch.Tensor:
    found = plain.vision_transformer(of_authors(), clips, heads=HEADS)
    assert found.std() > 0.5
    return found


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_loads_and_computes_what_the_publishers_network_does(
    spelling: str, tmp_path: Path, clips: torch.Tensor, expected: torch.Tensor
) -> None:
    spell, kind = SPELLINGS[spelling]
    encoder, report = loaded(spell(of_authors()), tmp_path)
    assert report.source == kind and report.complete and not report.fresh and report.heads
    with torch.no_grad():
        torch.testing.assert_close(encoder(clips), expected, rtol=0, atol=1e-5)


def test_a_file_of_pre_training_begins_with_a_fresh_norm_and_leaves_its_decoder_out(
    tmp_path: Path, clips: torch.Tensor
) -> None:
    state = of_authors()
    for name, files in (
        ("MCG-NJU", of_pre_training(state)),
        ("Hugging Face", of_hugging_face(state, bare=True)),
    ):
        encoder, report = loaded(files, tmp_path)
        assert report.source.startswith(name) and report.complete
        assert report.fresh == ("stages.4.head.norm.weight", "stages.4.head.norm.bias")
        assert "left as they begin, since the file has none: stages.4.head.norm.weight" in report.text()
        plain_norm = state | {"fc_norm.weight": torch.ones(C), "fc_norm.bias": torch.zeros(C)}
        with torch.no_grad():
            found = encoder(clips)
        torch.testing.assert_close(found, plain.vision_transformer(plain_norm, clips, heads=HEADS), rtol=0, atol=1e-5)
    _, report = loaded(of_pre_training(state), tmp_path)
    assert report.source == "MCG-NJU VideoMAE of pre-training" and len(report.heads) == 4
    assert "left out, being no part of an encoder: decoder.blocks.0.attn.q_bias" in report.text()


def test_adapters_of_opentad_load_into_adapters_and_others_begin_fresh(tmp_path: Path, clips: torch.Tensor) -> None:
    encoder, report = loaded(of_opentad(of_authors()), tmp_path, adapter="series")
    assert report.complete and not report.fresh
    assert (encoder.stages[2][1].adapter.up.weight == 0.1).all()
    encoder, report = loaded(of_mmaction2(of_authors()), tmp_path, adapter="series")
    assert len(report.fresh) == 9 * DEPTH
    with torch.no_grad():
        assert torch.equal(encoder(clips), loaded(of_mmaction2(of_authors()), tmp_path)[0](clips))
    part = of_opentad(of_authors())
    del part["module.backbone.model.backbone.blocks.3.adapter.gamma"]
    with pytest.raises(EtadError, match=r"missing module.backbone.model.backbone.blocks.3.adapter.gamma"):
        loaded(part, tmp_path, adapter="series")


def test_safetensors_load_and_are_told(tmp_path: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in of_hugging_face(of_authors()).items()}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert load_weights(small(), tmp_path / "model.safetensors", name="videomae_b").complete
    text = describe(tmp_path / "model.safetensors")
    assert "Hugging Face VideoMAE weights" in text and "videomae_b: does not fit" in text


def test_codes_of_places_that_were_learned_are_refused(tmp_path: Path) -> None:
    state = of_mmaction2(of_authors())
    state["backbone.pos_embed"] = torch.randn(1, 8, C)
    with pytest.raises(EtadError, match=r"backbone.pos_embed is learned, where this encoder has fixed sines"):
        loaded(state, tmp_path)


def test_other_vision_transformers_are_refused(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in of_authors().items() if not name.endswith(("q_bias", "v_bias"))}
    with pytest.raises(EtadError, match=r"these vision transformer \(no VideoMAE\) weights.*missing blocks.0.attn.q"):
        loaded(state, tmp_path)


@pytest.mark.parametrize(("kind", "names"), FITS.items())
def test_a_published_file_covers_its_encoder_by_names_and_shapes(kind: str, names: list[str]) -> None:
    tensors = {name: torch.empty(shape, device="meta") for name, shape in manifest(kind).items()}
    source = recognise(tensors)
    assert source is not None and source.families == ("videomae",)
    for name in names:
        with torch.device("meta"):
            encoder = build_encoder(name)
        report = _match(encoder, WeightsFile(Path(kind), 0, "", tensors, None), source, name)[1]
        assert report.complete, report.text()
        kept = {part for names in report.matched for part in names.split(" + ")}
        assert kept | set(report.heads) == set(tensors)
        assert bool(report.fresh) == kind.endswith("pretraining")


@pytest.mark.parametrize(
    ("kind", "millions"), [("mcg_videomae_s", 22), ("mcg_videomae_b", 87), ("mmaction2_videomae_l", 304)]
)
def test_manifests_have_as_many_parameters_as_such_transformers(kind: str, millions: int) -> None:
    shapes = [shape for name, shape in manifest(kind).items() if not name.endswith("pos_embed")]
    assert round(sum(torch.Size(shape).numel() for shape in shapes) / 1e6) == millions
