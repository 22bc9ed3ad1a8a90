"""Sequentialized gradient sampling: learn from many snippets in the memory of few (method, section 4, Alg. 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ...extract.encoders.encoder import Encoder

LossOf = Callable[[Sequence[Tensor]], Tensor]
FirstPassCache = Literal["nothing", "maps", "graphs"]


@dataclass(frozen=True)
class ByGradient:
    """Samples that are chosen once the gradient of each feature is known.

    Parameters
    ----------
    draw
        From the gradients of each video's features and these, (T, C) each, to indices (k,) and the gradients (k, C)
        that go into the encoder there, video by video.
    """

    draw: Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[tuple[Tensor, Tensor]]]


Samples = Sequence[Tensor] | Callable[[Sequence[Tensor]], Sequence[Tensor]] | ByGradient


@dataclass(frozen=True)
class SgsStep:
    """What one step came to; the gradients lie in the parameters.

    Parameters
    ----------
    loss
        What `loss_of` gave, detached.
    features
        (T, C) of each video, as the detector saw them.
    samples
        Snippets of each video whose gradients reached the encoder.
    kept_bytes
        Most memory that cached stage outputs took at a time; graphs are not counted.
    """

    loss: Tensor
    features: tuple[Tensor, ...]
    samples: tuple[Tensor, ...]
    kept_bytes: int


def sgs_step(
    encoder: Encoder,
    videos: Sequence[Tensor],
    loss_of: LossOf,
    *,
    samples: Samples,
    micro_batch: int,
    first_pass_cache: FirstPassCache = "nothing",
    recompute: bool = False,
    autocast: torch.dtype | None = None,
    report: Callable[[float], None] = lambda share: None,
) -> SgsStep:
    """Add to the gradients of detector and encoder what one batch of videos gives.

    The encoder's gradient comes from the sampled snippets alone, and is not scaled up for it, unless samples that are
    chosen by gradients carry more than their own. What is frozen, by
    `encoder.freeze`, gets none; nor does any parameter where nothing is sampled: its gradient stays None, so that an
    optimiser with weight decay leaves it alone.

    Parameters
    ----------
    encoder
        Its norms must be fixed: with statistics of a micro-batch, the passes would disagree.
    videos
        uint8 (T, L, H, W, 3) each, augmented already; T may differ. They go to the encoder's device bit by bit. Or,
        in half precision, (T, L, H, W, C): what the frozen stages made of the frames.
    loss_of
        From each video's features (T, C) to the loss. It may scale it: the encoder's gradient scales with it.
    samples
        Indices of each video's snippets, drawn beforehand, or a function that chooses them by the features, or by
        the gradients of these.
    micro_batch
        Snippets that the encoder sees at once, in either pass.
    first_pass_cache
        What the first pass leaves for the last one. `nothing`: it encodes from the frames again. `maps`: it starts
        behind the frozen stages, for one map of memory per sampled snippet (per snippet at all, where samples are
        chosen by features). `graphs`: it only goes back, for the activations of every sampled snippet at a time;
        needs samples drawn beforehand.
    recompute
        Keep what goes into each block alone, for the activations of one block at a time in the backward pass.
    autocast
        dtype in which the encoder computes; features and gradients between it and the detector stay float32.
    report
        Called with the share that is done, 0..1, as if both passes took as long.
    """
    assert not any(module.training for module in encoder.modules() if isinstance(module, nn.BatchNorm2d))
    beforehand = not callable(samples) and not isinstance(samples, ByGradient)
    assert beforehand or first_pass_cache != "graphs", "graphs can be kept of samples drawn beforehand only"
    snippets = _Snippets(encoder, videos, autocast, recompute)
    drawn = None if callable(samples) or isinstance(samples, ByGradient) else snippets.rows_of(samples)
    split = encoder.frozen_stages + 1
    last = len(encoder.stages)
    trains = any(parameter.requires_grad for parameter in encoder.parameters())

    # 1. Encode every snippet, keeping no graph; those drawn beforehand apart, for what is kept of them.
    wanted = range(snippets.count) if drawn is None else drawn
    rest = sorted(set(range(snippets.count)) - set(wanted))
    # Room for what is kept is made once: small tensors that outlive big ones would break the memory into pieces.
    maps: Tensor | None = None
    place_of = {row: place for place, row in enumerate(wanted)}
    graphs: list[Tensor] = []
    leaf = torch.empty(snippets.count, encoder.channels, device=encoder.mean.device, dtype=encoder.mean.dtype)
    encoded = 0
    for rows in _chunks(wanted, micro_batch):
        with torch.set_grad_enabled(first_pass_cache == "graphs" and trains):
            middle = snippets.encode(rows, 0, split)
            features = snippets.pooled(snippets.run(middle, split, last))
        if first_pass_cache == "maps" and split > 0 and trains:
            maps = middle.new_empty(len(wanted), *middle.shape[1:]) if maps is None else maps
            maps[[place_of[row] for row in rows]] = middle
        if features.requires_grad:
            graphs.append(features)
        leaf[rows] = features.detach()
        encoded += len(rows)
        report(0.5 * encoded / snippets.count)
    for rows in _chunks(rest, micro_batch):
        with torch.no_grad():
            features = snippets.pooled(snippets.run(snippets.encode(rows, 0, split), split, last))
        leaf[rows] = features
        encoded += len(rows)
        report(0.5 * encoded / snippets.count)
    kept_bytes = 0 if maps is None else maps.numel() * maps.element_size()

    # 2. The detector's forward and backward pass, with the features as leaf.
    leaf.requires_grad_()
    of_videos = leaf.split(snippets.lengths)
    loss = loss_of(of_videos)
    loss.backward()
    gradients = leaf.new_zeros(leaf.shape) if leaf.grad is None else leaf.grad
    if isinstance(samples, ByGradient):
        found = samples.draw(gradients.split(snippets.lengths), [part.detach() for part in of_videos])
        chosen: Sequence[Tensor] = [indices for indices, _ in found]
        rows_chosen = snippets.rows_of(chosen)
        gradients[rows_chosen] = torch.cat([sent for _, sent in found])
    else:
        chosen = samples([part.detach() for part in of_videos]) if callable(samples) else samples
        rows_chosen = snippets.rows_of(chosen)

    # 3. Encode the sampled snippets again, and send their features' gradients back.
    if leaf.grad is not None and trains:
        done = 0
        if first_pass_cache == "graphs":
            for rows, features in zip(_chunks(rows_chosen, micro_batch), graphs):
                features.backward(gradients[rows])
                done += len(rows)
                report(0.5 + 0.5 * done / len(rows_chosen))
        else:
            for rows in _chunks(rows_chosen, micro_batch):
                kept = None if maps is None else maps[[place_of[row] for row in rows]]
                middle = snippets.encode(rows, 0, split) if kept is None else kept
                snippets.pooled(snippets.run(middle, split, last)).backward(gradients[rows])
                done += len(rows)
                report(0.5 + 0.5 * done / len(rows_chosen))
    features_seen = tuple(part.detach() for part in of_videos)
    return SgsStep(loss.detach(), features_seen, tuple(chosen), kept_bytes)


def kept_map_bytes(encoder: Encoder, clip: Tensor, *, autocast: torch.dtype | None = None) -> int:
    """Memory that `first_pass_cache="maps"` takes per snippet, measured on one clip, uint8 (L, H, W, 3)."""
    snippets = _Snippets(encoder, [clip[None]], autocast)
    with torch.no_grad():
        kept = snippets.encode([0], 0, encoder.frozen_stages + 1)
    return kept.numel() * kept.element_size() if encoder.frozen_stages >= 0 else 0


class _Snippets:
    """The snippets of all videos in one row, and an encoder to send some of them through."""

    def __init__(
        self, encoder: Encoder, videos: Sequence[Tensor], autocast: torch.dtype | None, recompute: bool = False
    ) -> None:
        self.encoder, self.videos, self.autocast, self.recompute = encoder, videos, autocast, recompute
        self.lengths = [len(video) for video in videos]
        self.places = [(video, index) for video, length in enumerate(self.lengths) for index in range(length)]
        self.count = len(self.places)

    def rows_of(self, samples: Sequence[Tensor]) -> list[int]:
        """Places in the row of snippets that each video counts for itself."""
        assert len(samples) == len(self.lengths), (len(samples), len(self.lengths))
        rows, start = [], 0
        for sample, length in zip(samples, self.lengths):
            indices = sample.tolist()
            assert all(0 <= index < length for index in indices) and len(set(indices)) == len(indices), indices
            rows += [start + index for index in indices]
            start += length
        return rows

    def encode(self, rows: Sequence[int], start: int, stop: int) -> Tensor:
        """Normalise the frames of some snippets, and run the first stages."""
        places = [self.places[row] for row in rows]
        frames = torch.stack([self.videos[video][index] for video, index in places])
        if frames.dtype == torch.float16:
            assert (start, stop) == (0, self.encoder.frozen_stages + 1), (start, stop)
            return frames.to(self.encoder.mean.device).to(self.encoder.mean.dtype).permute(0, 4, 1, 2, 3)
        return self.run(self.encoder.normalise(frames.to(self.encoder.mean.device)), start, stop)

    def run(self, x: Tensor, start: int, stop: int) -> Tensor:
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            return self.encoder.run_stages(x, start, stop, recompute=self.recompute)

    def pooled(self, x: Tensor) -> Tensor:
        """Features in the detector's dtype."""
        return self.encoder.pool(x.to(self.encoder.mean.dtype))


def _chunks(rows: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])
