"""Names and shapes of published VideoMAE checkpoints, written out from each publisher's own way to build it."""

from reference.layout_writer import Manifest, Writer


def authors_blocks(out: Writer, prefix: str, *, depth: int, channels: int, fc: tuple[str, str]) -> None:
    """Blocks as VideoMAE's authors, and MMAction2 after them, name their parts."""
    for number in range(depth):
        block = f"{prefix}blocks.{number}"
        out.layer_norm(f"{block}.norm1", channels)
        out.vector(f"{block}.attn.q_bias", channels)
        out.vector(f"{block}.attn.v_bias", channels)
        out.linear(f"{block}.attn.qkv", 3 * channels, channels, bias=False)
        out.linear(f"{block}.attn.proj", channels, channels)
        out.layer_norm(f"{block}.norm2", channels)
        out.linear(f"{block}.mlp.{fc[0]}", 4 * channels, channels)
        out.linear(f"{block}.mlp.{fc[1]}", channels, 4 * channels)


def mcg_videomae(source: str, *, depth: int, channels: int, classes: int) -> Manifest:
    out = Writer()
    out.tubelets("patch_embed.proj", channels)
    authors_blocks(out, "", depth=depth, channels=channels, fc=("fc1", "fc2"))
    out.layer_norm("fc_norm", channels)
    out.linear("head", classes, channels)
    return out.manifest(source)


def mcg_videomae_b_pretraining() -> Manifest:
    out = Writer()
    out.tensors["mask_token"] = [1, 1, 384]
    out.tubelets("encoder.patch_embed.proj", 768)
    authors_blocks(out, "encoder.", depth=12, channels=768, fc=("fc1", "fc2"))
    out.layer_norm("encoder.norm", 768)
    authors_blocks(out, "decoder.", depth=4, channels=384, fc=("fc1", "fc2"))
    out.layer_norm("decoder.norm", 384)
    out.linear("decoder.head", 1536, 384)
    out.linear("encoder_to_decoder", 384, 768, bias=False)
    return out.manifest("MCG-NJU, VideoMAE, pre-training of ViT-B, Kinetics-400")


def mmaction2_videomae(source: str, *, depth: int, channels: int) -> Manifest:
    out = Writer()
    out.tensors["backbone.pos_embed"] = [1, 1568, channels]
    out.tubelets("backbone.patch_embed.projection", channels)
    authors_blocks(out, "backbone.", depth=depth, channels=channels, fc=("layers.0.0", "layers.1"))
    out.layer_norm("backbone.fc_norm", channels)
    out.linear("cls_head.fc_cls", 400, channels)
    return out.manifest(source)


def hugging_face_layers(out: Writer, prefix: str, *, depth: int, channels: int) -> None:
    for number in range(depth):
        layer = f"{prefix}.{number}"
        out.vector(f"{layer}.attention.attention.q_bias", channels)
        out.vector(f"{layer}.attention.attention.v_bias", channels)
        for name in ("query", "key", "value"):
            out.linear(f"{layer}.attention.attention.{name}", channels, channels, bias=False)
        out.linear(f"{layer}.attention.output.dense", channels, channels)
        out.linear(f"{layer}.intermediate.dense", 4 * channels, channels)
        out.linear(f"{layer}.output.dense", channels, 4 * channels)
        out.layer_norm(f"{layer}.layernorm_before", channels)
        out.layer_norm(f"{layer}.layernorm_after", channels)


def hugging_face_videomae(source: str, *, depth: int, channels: int) -> Manifest:
    out = Writer()
    out.tubelets("videomae.embeddings.patch_embeddings.projection", channels)
    hugging_face_layers(out, "videomae.encoder.layer", depth=depth, channels=channels)
    out.layer_norm("fc_norm", channels)
    out.linear("classifier", 400, channels)
    return out.manifest(source)


def hugging_face_videomae_b_pretraining() -> Manifest:
    out = Writer()
    out.tensors["mask_token"] = [1, 1, 384]
    out.tubelets("videomae.embeddings.patch_embeddings.projection", 768)
    hugging_face_layers(out, "videomae.encoder.layer", depth=12, channels=768)
    out.layer_norm("videomae.layernorm", 768)
    out.linear("encoder_to_decoder", 384, 768, bias=False)
    hugging_face_layers(out, "decoder.decoder_layers", depth=4, channels=384)
    out.layer_norm("decoder.norm", 384)
    out.linear("decoder.head", 1536, 384)
    return out.manifest("Hugging Face, VideoMAE, pre-training of ViT-B, Kinetics-400")


def videomae_manifests() -> dict[str, Manifest]:
    small, base, large = (dict(depth=d, channels=c) for d, c in ((12, 384), (12, 768), (24, 1024)))
    return {
        "mcg_videomae_s": mcg_videomae("MCG-NJU, VideoMAE, ViT-S, Kinetics-400", classes=400, **small),
        "mcg_videomae_b": mcg_videomae("MCG-NJU, VideoMAE, ViT-B, Kinetics-400", classes=400, **base),
        "mcg_videomae_b_pretraining": mcg_videomae_b_pretraining(),
        "opengvlab_videomae_v2_b": mcg_videomae("OpenGVLab, VideoMAE V2, ViT-B, Kinetics-710", classes=710, **base),
        "mmaction2_videomae_b": mmaction2_videomae("MMAction2, VideoMAE, ViT-B, Kinetics-400", **base),
        "mmaction2_videomae_l": mmaction2_videomae("MMAction2, VideoMAE, ViT-L, Kinetics-400", **large),
        "huggingface_videomae_b": hugging_face_videomae("Hugging Face, VideoMAE, ViT-B, Kinetics-400", **base),
        "huggingface_videomae_l": hugging_face_videomae("Hugging Face, VideoMAE, ViT-L, Kinetics-400", **large),
        "huggingface_videomae_b_pretraining": hugging_face_videomae_b_pretraining(),
    }
