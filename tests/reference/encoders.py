"""Published video networks, plainly: 3-D kernels, separate norms, read straight off a publisher's state dict."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def fabricate(shapes: dict[str, tuple[int, ...]], *, seed: int, dtype: torch.dtype = torch.float32) -> State:
    """Random weights of given names and shapes, of a size at which signals neither die nor explode."""
    # Drawing millions of numbers takes seconds: draw some, and repeat them from another place for each tensor.
    drawn = torch.randn(1_000_003, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    state, start = {}, 0
    for name, shape in shapes.items():
        size = torch.Size(shape).numel()
        start = (start + 7919) % len(drawn)
        noise = (
            drawn[start : start + size] if start + size <= len(drawn) else drawn.repeat(2 + size // len(drawn))[:size]
        )
        noise = noise.reshape(shape)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif len(shape) >= 4:
            state[name] = noise * (1.5 / max(noise[0].numel(), 1)) ** 0.5
        elif name.endswith("running_var"):
            state[name] = 1 + 0.3 * noise.tanh()
        elif name.endswith("weight") and len(shape) == 1:
            state[name] = 0.7 + 0.2 * noise.tanh()
        else:
            state[name] = 0.1 * noise
    return state


def without_prefix(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def shifted(x: Tensor, part: int = 8) -> Tensor:
    """TSM's shift of (N, C, L, H, W): an eighth comes from the next frame, an eighth from the one before."""
    eighth = x.shape[1] // part
    first, second, rest = x[:, :eighth], x[:, eighth : 2 * eighth], x[:, 2 * eighth :]
    nothing = torch.zeros_like(x[:, :eighth, :1])
    from_next = torch.cat([first[:, :, 1:], nothing], dim=2)
    from_last = torch.cat([nothing, second[:, :, :-1]], dim=2)
    return torch.cat([from_next, from_last, rest], dim=1)


def convolve(state: State, name: str, x: Tensor, *, stride: tuple[int, int] = (1, 1)) -> Tensor:
    """3-D convolution with the kernel of that name (2-D ones get one frame), zeros around it, stride (time, space)."""
    weight = state.get(f"{name}.net.weight", state.get(f"{name}.weight"))
    if weight.ndim == 4:
        weight = weight[:, :, None]
    padding = tuple(size // 2 for size in weight.shape[2:])
    return F.conv3d(x, weight, None, (stride[0], stride[1], stride[1]), padding)


def normalise(state: State, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *parts, training=False, eps=eps)


def resnet(state: State, x: Tensor, *, spelling: str, shift: bool) -> Tensor:
    """Features (N, C) of a residual network in MMAction2's or torchvision's spelling, without prefix."""

    def names(part: str) -> tuple[str, str]:
        if spelling == "mmaction2":
            return f"{part}.conv", f"{part}.bn"
        if part.endswith("downsample"):
            return f"{part}.0", f"{part}.1"
        return part, part.replace("conv", "bn")

    def step(part: str, x: Tensor, stride: int = 1) -> Tensor:
        conv, norm = names(part)
        return normalise(state, norm, convolve(state, conv, x, stride=(1, stride)))

    def has(part: str) -> bool:
        conv = names(part)[0]
        return f"{conv}.weight" in state or f"{conv}.net.weight" in state

    x = step("conv1", x, 2).relu()
    x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for stage in range(1, 5):
        for index in range(100):
            layer = f"layer{stage}.{index}"
            if not has(f"{layer}.conv1"):
                break
            stride = 2 if stage > 1 and index == 0 else 1
            bottleneck = has(f"{layer}.conv3")
            y = shifted(x) if shift else x
            y = step(f"{layer}.conv1", y, 1 if bottleneck else stride).relu()
            y = step(f"{layer}.conv2", y, stride if bottleneck else 1)
            if bottleneck:
                y = step(f"{layer}.conv3", y.relu())
            around = step(f"{layer}.downsample", x, stride) if has(f"{layer}.downsample") else x
            x = (y + around).relu()
    return x.mean((2, 3, 4))


def r2plus1d(state: State, x: Tensor) -> Tensor:
    """Features of R(2+1)D in torchvision's spelling, without prefix."""
    eps = 1e-3

    def pair(name: str, x: Tensor, stride: int) -> Tensor:
        x = normalise(state, f"{name}.0.1", convolve(state, f"{name}.0.0", x, stride=(1, stride)), eps).relu()
        return normalise(state, f"{name}.1", convolve(state, f"{name}.0.3", x, stride=(stride, 1)), eps)

    x = normalise(state, "stem.1", convolve(state, "stem.0", x, stride=(1, 2)), eps).relu()
    x = normalise(state, "stem.4", convolve(state, "stem.3", x), eps).relu()
    for stage in range(1, 5):
        index = 0
        while f"layer{stage}.{index}.conv1.0.0.weight" in state:
            layer = f"layer{stage}.{index}"
            stride = 2 if stage > 1 and index == 0 else 1
            y = pair(f"{layer}.conv2", pair(f"{layer}.conv1", x, stride).relu(), 1)
            around = x
            if f"{layer}.downsample.0.weight" in state:
                around = convolve(state, f"{layer}.downsample.0", x, stride=(stride, stride))
                around = normalise(state, f"{layer}.downsample.1", around, eps)
            x = (y + around).relu()
            index += 1
    return x.mean((2, 3, 4))


def pathways(state: State, x: Tensor, *, publisher: str, kind: str, alpha: int = 4) -> Tensor:
    """Features (N, C) of SlowFast or I3D in PySlowFast's or PyTorchVideo's spelling, without prefix."""
    ours = publisher == "pyslowfast"
    norm_of = (lambda conv: f"{conv}_bn") if ours else (lambda conv: conv.replace("conv", "norm"))

    def step(conv: str, x: Tensor, stride: tuple[int, int] = (1, 1), norm: str = "") -> Tensor:
        return normalise(state, norm or norm_of(conv), convolve(state, conv, x, stride=stride))

    def owner(stage: int, pathway: int) -> str:
        if ours:
            return f"s{stage + 1}.pathway{pathway}_"
        number = stage + (kind == "i3d" and stage > 1)
        return f"blocks.{number}." + (f"multipathway_blocks.{pathway}." if kind == "slowfast" else "")

    def fuse(stage: int, slow: Tensor, fast: Tensor) -> Tensor:
        place = f"s{stage + 1}_fuse" if ours else f"blocks.{stage}.multipathway_fusion"
        conv, norm = (f"{place}.conv_f2s", f"{place}.bn") if ours else (f"{place}.conv_fast_to_slow", f"{place}.norm")
        return torch.cat([slow, step(conv, fast, (alpha, 1), norm).relu()], dim=1)

    if kind == "slowfast":
        few = torch.linspace(0, x.shape[2] - 1, x.shape[2] // alpha).long()
        maps = [x[:, :, few], x]
    else:
        maps = [x]
    for pathway, map_ in enumerate(maps):
        place = owner(0, pathway) + ("stem." if ours else "")
        map_ = step(f"{place}conv", map_, (1, 2), f"{place}bn" if ours else f"{place}norm").relu()
        maps[pathway] = F.max_pool3d(map_, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for stage in range(1, 5):
        if kind == "slowfast":
            maps[0] = fuse(stage - 1, *maps)
        for pathway, map_ in enumerate(maps):
            for index in range(100):
                block = f"{owner(stage, pathway)}{'res' if ours else 'res_blocks.'}{index}"
                a, b, c = (f"{block}.branch2.{'' if ours else 'conv_'}{letter}" for letter in "abc")
                if f"{a}.weight" not in state:
                    break
                stride = (1, 2 if stage > 1 and index == 0 else 1)
                y = step(c, step(b, step(a, map_).relu(), stride).relu())
                around = f"{block}.{'branch1' if ours else 'branch1_conv'}"
                map_ = (y + (step(around, map_, stride) if f"{around}.weight" in state else map_)).relu()
            maps[pathway] = F.max_pool3d(map_, (2, 1, 1)) if kind == "i3d" and stage == 1 else map_
    return torch.cat([map_.mean((2, 3, 4)) for map_ in maps], dim=1)


def transnetv2(state: State, x: Tensor) -> Tensor:
    """Features of every frame, (N, 4608, L), of TransNet V2 for colours on 0..1; pictures of 48x27."""
    for pair in range(3):
        around = None
        for block in range(2):
            name = f"SDDCNN.{pair}.DDCNN.{block}"
            parts = []
            for dilation in (1, 2, 4, 8):
                y = F.conv3d(x, state[f"{name}.Conv3D_{dilation}.layers.0.weight"], padding=(0, 1, 1))
                kernel = state[f"{name}.Conv3D_{dilation}.layers.1.weight"]
                parts.append(F.conv3d(y, kernel, padding=(dilation, 0, 0), dilation=(dilation, 1, 1)))
            x = normalise(state, f"{name}.bn", torch.cat(parts, dim=1), eps=1e-3).relu()
            around = x if around is None else around
        x = F.avg_pool3d(x + around, (1, 2, 2))
    return x.permute(0, 3, 4, 1, 2).flatten(1, 3)


def efficientnet(state: State, x: Tensor) -> Tensor:
    """Features of EfficientNet-lite for frames (N, 3, H, W); padding as TensorFlow's "same"."""
    eps = 1e-3
    strides = {1: 2, 3: 2, 5: 2, 11: 2}  # by number of the block

    def step(conv: str, norm: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        size = weight.shape[-1]
        pads = []
        for length in (x.shape[3], x.shape[2]):
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            pads += [total // 2, total - total // 2]
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        return normalise(state, norm, F.conv2d(F.pad(x, pads), weight, None, stride, groups=groups), eps)

    x = F.relu6(step("_conv_stem", "_bn0", x, 2))
    number = 0
    while f"_blocks.{number}._project_conv.weight" in state:
        block = f"_blocks.{number}"
        y = x
        if f"{block}._expand_conv.weight" in state:
            y = F.relu6(step(f"{block}._expand_conv", f"{block}._bn0", y))
        y = F.relu6(step(f"{block}._depthwise_conv", f"{block}._bn1", y, strides.get(number, 1)))
        y = step(f"{block}._project_conv", f"{block}._bn2", y)
        x = x + y if y.shape == x.shape and number not in strides else y
        number += 1
    return F.relu6(step("_conv_head", "_bn1", x)).mean((2, 3))


def vision_transformer(state: State, x: Tensor, *, heads: int) -> Tensor:
    """Features of VideoMAE in its authors' spelling, for clips of the size that its codes of places are made for."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", torch.zeros(()))

    def norm(name: str, x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / (variance + 1e-6).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]

    kernel = state["patch_embed.proj.weight"]
    x = F.conv3d(x, kernel, state["patch_embed.proj.bias"], stride=kernel.shape[2:]).flatten(2).transpose(1, 2)
    count, channels = x.shape[1:]
    for place in range(count):
        for channel in range(channels):
            angle = place / 10000 ** (2 * (channel // 2) / channels)
            x[:, place, channel] += math.sin(angle) if channel % 2 == 0 else math.cos(angle)
    number = 0
    while f"blocks.{number}.norm1.weight" in state:
        block = f"blocks.{number}"
        q, k, v = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x)).chunk(3, dim=-1)
        q, v = q + state[f"{block}.attn.q_bias"], v + state[f"{block}.attn.v_bias"]
        seen = []
        for part in range(heads):
            of_head = slice(part * channels // heads, (part + 1) * channels // heads)
            products = q[..., of_head] @ k[..., of_head].transpose(1, 2) / (channels / heads) ** 0.5
            seen.append(products.softmax(-1) @ v[..., of_head])
        x = x + linear(f"{block}.attn.proj", torch.cat(seen, dim=-1))
        wide = linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x))
        x = x + linear(f"{block}.mlp.fc2", wide * 0.5 * (1 + torch.erf(wide / 2**0.5)))
        number += 1
    return norm("fc_norm", x.mean(1))
