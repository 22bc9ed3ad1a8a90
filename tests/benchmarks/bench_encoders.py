"""How fast encoders run: as their publishers write them, and as ours, in turn in one process.

The publishers' way: channels first in memory, batch norms as passes of their own, and 3-D kernels for R(2+1)D and
SlowOnly, in float32. Times are of the processor, which other work on the machine sways less than the clock.

Run as `python tests/benchmarks/bench_encoders.py [--encoders tsm_r50 r2plus1d_34] [--clips 2] [--side 112]`.
"""

import argparse
import functools
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from measure import Row, compare, matrix_share, report
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from etad.data.precision import choose_dtype
from etad.extract.encoders.convnorm import ConvNorm
from etad.extract.encoders.encoder import ENCODERS, Encoder, build_encoder

_ACTIVATIONS = {"relu": F.relu_, "relu6": F.relu6, "none": lambda x: x}


class PlainConvNorm(ConvNorm):
    """The same weights, convolved and normalised the publishers' way."""

    in_space_and_time = False

    def forward(self, x: Tensor) -> Tensor:
        if self.in_space_and_time:
            weight = self.weight[..., None] if self.axis == "time" else self.weight[:, :, None]
            stride = (self.stride, 1, 1) if self.axis == "time" else (1, self.stride, self.stride)
            padding = [size // 2 for size in weight.shape[2:]]
            return self._normalised(F.conv3d(x, weight, None, stride, padding))
        return per_frame_plainly(self._convolve, x)

    def _convolve(self, x: Tensor) -> Tensor:
        padding = self.padding
        if padding == "same":
            padding = self.weight.shape[-1] // 2
        return self._normalised(F.conv2d(x, self.weight, None, self.stride, padding, groups=self.groups))

    def _normalised(self, x: Tensor) -> Tensor:
        norm = self.norm
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, eps=norm.eps)
        return _ACTIVATIONS[self.activation](x)


def per_frame_plainly(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    n, _, l, _, _ = x.shape
    return run(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (n, l)).transpose(1, 2)


def plainly(name: str) -> Encoder:
    """The encoder with plain convolutions."""
    encoder = build_encoder(name)
    for module in encoder.modules():
        if isinstance(module, ConvNorm):
            module.__class__ = PlainConvNorm
            module.in_space_and_time = ENCODERS[name].family in ("slowonly", "r2plus1d")
    return encoder


def step(encoder: Encoder, clips: Tensor, *, train: bool, autocast: bool = False) -> None:
    with torch.set_grad_enabled(train), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        features = encoder(clips)
    if train:
        features.float().sum().backward()
        encoder.zero_grad()


def gflop(encoder: Encoder, clips: Tensor, *, train: bool) -> float:
    """Multiplications and additions of one step, as the plain way does them."""
    with FlopCounterMode(display=False) as counter:
        step(encoder, clips, train=train)
    return counter.get_total_flops() / 1e9


def graph_mebibytes(encoder: Encoder, clips: Tensor) -> float:
    """What the graph of one forward pass keeps for backward, per clip."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    parameters = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        features = encoder(clips)
    total = sum(size for place, size in kept.items() if place not in parameters)
    del features
    return total / len(clips) / 2**20


def rows(name: str, num_clips: int, side: int, repeats: int) -> list[Row]:
    frames = torch.randint(0, 256, (num_clips, ENCODERS[name].clip_frames, side, side, 3))
    ours, plain = build_encoder(name).freeze(2), plainly(name).freeze(2)
    plain.load_state_dict(ours.state_dict())
    clips = ours.normalise(frames.to(torch.uint8))
    first = clips.contiguous()
    how = dict(unit="ms a clip", items=num_clips, repeats=repeats, clock=time.process_time)
    kept = f"{name}, kept for backward, two stages frozen"
    gains = choose_dtype("auto", torch.device("cpu")) == torch.bfloat16  # else it takes longer than float32
    found = [Row(kept, graph_mebibytes(ours, clips), "MiB a clip", graph_mebibytes(plain, first))]
    for train in (False, True):
        done = "forward and backward, two stages frozen" if train else "forward"
        work = gflop(plain, first, train=train)
        publishers = functools.partial(step, plain, first, train=train)
        for autocast in (False, True) if gains else (False,):
            what = f"{name}, {done}, {'bfloat16' if autocast else 'float32'}"
            mine = functools.partial(step, ours, clips, train=train, autocast=autocast)
            aim = "5 x" if autocast and name == "r2plus1d_34" and not train else ""
            row = compare(what, plain=publishers, ours=mine, aim=aim, **how)
            # PyTorch's counter takes the gradients of grouped convolutions for those of whole ones.
            if not (train and ENCODERS[name].family == "efficientnet"):
                # Processor seconds are of all threads together, the rate of products is of all at once.
                seconds = row.ours * num_clips / 1e3 / torch.get_num_threads()
                row = replace(row, **matrix_share(work, seconds, torch.bfloat16 if autocast else torch.float32))
            found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", nargs="*", default=list(ENCODERS), choices=list(ENCODERS))
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    table = [row for name in asked.encoders for row in rows(name, asked.clips, asked.side, asked.repeats)]
    report(table, title=f"Encoders, {asked.side} x {asked.side}")


if __name__ == "__main__":
    main()
