"""VideoMAE (Tong et al. 2022, Wang et al. 2023): a vision transformer over tubelets, its blocks in four groups."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...data.errors import EtadError
from .adapter import AdaptedBlock, AdapterKind, SideSum
from .spec import IMAGENET_MEAN, IMAGENET_STD, EncoderSpec

NORM_EPS = 1e-6
# Frames of a tubelet; sides of its pictures, and how many of them 224 pixels have, in pretraining.
TUBELET_FRAMES, PATCH, GRID = 2, 16, 14
_GROUPS = 4


class Tubelets(nn.Module):
    """Cut clips into tubelets, embed each, and add the sine code of its place: the stem.

    Takes clips (N, 3, L, H, W), whose sides must be multiples of a tubelet's, and gives (N, C, L / 2, H', W').

    Parameters
    ----------
    channels
        Of an embedding.
    patch
        Side of a tubelet in pixels.
    grid
        Tubelets along a side in pretraining, see `place_codes`.
    """

    def __init__(self, channels: int, *, patch: int = PATCH, grid: int = GRID) -> None:
        super().__init__()
        self.patch, self.grid = patch, grid
        self.weight = nn.Parameter(torch.empty(channels, 3, TUBELET_FRAMES, patch, patch))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.xavier_uniform_(self.weight.view(channels, -1))

    def forward(self, x: Tensor) -> Tensor:
        n, _, frames, height, width = x.shape
        if frames % TUBELET_FRAMES or height % self.patch or width % self.patch:
            raise EtadError(
                f"clips of {frames} frames of {width}x{height} pixels: VideoMAE cuts them into tubelets of "
                f"{TUBELET_FRAMES} frames and {self.patch}x{self.patch} pixels. Set clips.clip_frames and clips.crop "
                f"to multiples of these, such as 16 and {self.patch * 10}."
            )
        l, h, w = frames // TUBELET_FRAMES, height // self.patch, width // self.patch
        # The strides are those of tubelets that do not overlap: a convolution is one product of matrices.
        cut = x.permute(0, 2, 3, 4, 1).reshape(n, l, TUBELET_FRAMES, h, self.patch, w, self.patch, 3)
        cut = cut.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(n, l, h, w, -1)
        embedded = F.linear(cut, self.weight.permute(0, 2, 3, 4, 1).flatten(1), self.bias)  # (N, L', H', W', C)
        codes = place_codes(len(self.bias), self.grid, (l, h, w)).to(x)
        return (embedded + codes).permute(0, 4, 1, 2, 3)  # (N, C, L', H', W')


class TransformerBlock(nn.Module):
    """Self-attention over all tokens of a clip, then a network on each token; the norms stand first.

    Takes and gives maps (N, C, L, H, W).

    Parameters
    ----------
    channels, heads
        Of the maps, and among how many heads of attention they are shared.
    """

    def __init__(self, channels: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        # Keys have no bias: it would change all products of a query alike, which the softmax takes out again.
        self.q_bias = nn.Parameter(torch.zeros(channels))
        self.v_bias = nn.Parameter(torch.zeros(channels))
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)
        for layer in (self.qkv, self.proj, self.fc1, self.fc2):
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        n, c, l, h, w = x.shape
        tokens = x.permute(0, 2, 3, 4, 1).reshape(n, l * h * w, c)  # (N, L H W, C)
        tokens = tokens + self.proj(self._attend(self.norm1(tokens)))
        tokens = tokens + self.fc2(F.gelu(self.fc1(self.norm2(tokens))))
        return tokens.reshape(n, l, h, w, c).permute(0, 4, 1, 2, 3)  # (N, C, L, H, W)

    def _attend(self, tokens: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        of_heads = F.linear(tokens, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1))
        q, k, v = of_heads.permute(2, 0, 3, 1, 4)  # (N, heads, L H W, C / heads) each
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class TokenMean(nn.Module):
    """Mean over all tokens, then a norm, as published fine-tuned networks end: (N, C, L, H, W) to (N, C, 1, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        # Hundreds of tokens are added up, in a dtype that can do that.
        dtype = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        return self.norm(x.mean(dim=(2, 3, 4), dtype=dtype))[..., None, None, None]


def videomae_stages(
    *,
    channels: int,
    depth: int,
    heads: int,
    patch: int = PATCH,
    grid: int = GRID,
    adapter: AdapterKind = "none",
) -> list[nn.Module]:
    """Build the stem and four equal groups of blocks; the last one ends with the mean.

    Parameters
    ----------
    channels, depth, heads
        Of the tokens; how many blocks; heads of attention in each.
    patch, grid
        See Tubelets.
    adapter
        What stands beside each block.
    """
    assert depth % _GROUPS == 0, depth
    stem = Tubelets(channels, patch=patch, grid=grid)
    blocks = [TransformerBlock(channels, heads=heads) for _ in range(depth)]
    # Adapters come after all blocks: the same seed gives the same blocks whatever stands beside them.
    adapted = [AdaptedBlock(block, channels=channels, adapter=adapter) for block in blocks]
    size = depth // _GROUPS
    stages: list[nn.Module] = [stem]
    for start in range(0, depth, size):
        stages.append(nn.Sequential(*adapted[start : start + size]))
    last = stages[-1]
    if adapter == "side":
        last.add_module("side_sum", SideSum(channels))
    last.add_module("head", TokenMean(channels))
    return stages


@functools.lru_cache(maxsize=8)
def place_codes(channels: int, grid: int, size: tuple[int, int, int]) -> Tensor:
    """Sine codes of the places of tokens, (L, H, W, C).

    They are those of pretraining, where places are counted through moments, rows and columns of a grid; for pictures
    of other sizes they are interpolated over rows and columns (bicubically, as AdaTAD does), not counted anew. More or
    fewer moments are the rows of the same table.

    Parameters
    ----------
    channels
        Of a code.
    grid
        Rows, and columns, in pretraining.
    size
        Moments, rows and columns.
    """
    moments, rows, columns = size
    with torch.inference_mode(False), torch.no_grad():
        codes = sine_table(moments * grid * grid, channels).reshape(moments, grid, grid, channels)
        if (rows, columns) != (grid, grid):
            first = codes.permute(0, 3, 1, 2)  # (L, C, H, W)
            codes = F.interpolate(first, size=(rows, columns), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
        return codes.contiguous()


def sine_table(count: int, channels: int) -> Tensor:
    """Sines in even channels and cosines in odd ones, of waves that get longer: (count, channels) float32."""
    channel = torch.arange(channels, dtype=torch.float64, device="cpu")
    angles = torch.arange(count, device="cpu")[:, None] * 10000.0 ** (-(channel - channel % 2) / channels)
    return torch.where(channel % 2 == 0, angles.sin(), angles.cos()).float()


def _videomae(
    name: str, published: str, *, side: int = 224, channels: int, depth: int, heads: int, **sizes: int
) -> EncoderSpec:
    def build(adapter: AdapterKind = "none") -> list[nn.Module]:
        return videomae_stages(channels=channels, depth=depth, heads=heads, adapter=adapter, **sizes)

    return EncoderSpec(
        name=name,
        family="videomae",
        channels=channels,
        clip_frames=16,
        frame_step=4,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        published=published,
        build=build,
        resize=side,
        crop=side,
        takes_adapter=True,
        frames_multiple=TUBELET_FRAMES,
    )


_VIDEOMAE_K400 = (
    "VideoMAE's ViT-{0}, fine-tuned on Kinetics-400: from the model zoo of the project MCG-NJU/VideoMAE, {1}; "
    "or its pre-training"
)

VIDEOMAE: tuple[EncoderSpec, ...] = (
    _videomae("videomae_s", _VIDEOMAE_K400.format("S", "or AdaTAD's copy"), channels=384, depth=12, heads=6),
    _videomae(
        "videomae_b",
        _VIDEOMAE_K400.format("B", "MMAction2's (vit-base-p16_videomae-k400-pre) or Hugging Face"),
        channels=768,
        depth=12,
        heads=12,
    ),
    _videomae(
        "videomae_l",
        _VIDEOMAE_K400.format("L", "MMAction2's (vit-large-p16_videomae-k400-pre) or Hugging Face"),
        channels=1024,
        depth=24,
        heads=16,
    ),
    _videomae(
        "videomae_v2_b",
        "VideoMAE V2's ViT-B, distilled from its giant (vit_b_k710_dl_from_giant): from the model zoo of the "
        "project OpenGVLab/VideoMAEv2, which asks for a form, or MMAction2's (vit-base-p16_videomaev2-vit-g-dist)",
        channels=768,
        depth=12,
        heads=12,
    ),
    _videomae(
        "videomae_tiny",
        "them from `etad pretrain`, which trains this small encoder in minutes; nobody publishes any",
        side=32,
        channels=128,
        depth=4,
        heads=4,
        patch=8,
        grid=4,
    ),
)
