"""Proposal evaluation the plain way: build every proposal's RoI features, then one layer after another (A.2).

The weights are those of our stage. RoI-align is a product with a dense matrix of interpolation weights, forward and
backward: faster than a loop over samples, so that what is measured against it is an honest opponent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from etad.detect.loss.losses import UniformSource, detection_loss
from etad.detect.loss.targets import Matches
from etad.detect.model.cascade import CascadeStage, StageOutput
from etad.detect.model.detector import Detector, DetectorOutput
from etad.detect.model.proposals import refine
from etad.detect.preset import PRESETS


def roi_matrix(proposals: Tensor, bins: int, num_snippets: int) -> Tensor:
    """(K, 2) proposals in snippets -> (K R, T) share of each snippet in each bin."""
    low, high = proposals.unbind(-1)
    width = (high - low).clamp(min=1)
    samples = torch.ceil(width / bins)
    offset = torch.arange(int(samples.max())) + 0.5
    start = low[:, None] + torch.arange(bins) * (width / bins)[:, None]
    x = start[:, :, None] + (offset * (width / bins)[:, None] / samples[:, None])[:, None, :]
    inside = (offset < samples[:, None])[:, None, :] & (x >= -1) & (x <= num_snippets)
    x = x.clamp(0, num_snippets - 1)
    scale = inside / samples[:, None, None]
    matrix = torch.zeros(*x.shape[:2], num_snippets)
    left = x.floor()
    matrix.scatter_add_(2, left.long(), (1 - (x - left)) * scale)
    matrix.scatter_add_(2, (left.long() + 1).clamp(max=num_snippets - 1), (x - left) * scale)
    return matrix.flatten(0, 1)


def evaluate_stage(stage: CascadeStage, x: Tensor, proposals: Tensor) -> StageOutput:
    """What `CascadeStage.forward` computes."""
    batch, num_proposals, _ = proposals.shape
    bins, num_snippets = stage.bins, x.shape[2]
    z = stage.reduce(x + stage.context(x).relu()).relu()
    start, end = (proposals.detach() * num_snippets).unbind(-1)
    margin = (end - start) * 0.5
    extended = torch.stack([start - margin, end + margin], dim=-1)
    roi = torch.stack([roi_matrix(extended[b], bins, num_snippets) @ z[b].t() for b in range(batch)])
    roi = roi.view(batch * num_proposals, bins, -1).transpose(1, 2)  # [B K, 128, R]

    def chain(layers, number: int, features: Tensor) -> Tensor:
        last = len(layers.weights) - 1
        for layer in range(last + 1):
            features = features @ layers.weights[layer][number] + layers.biases[layer][number]
            features = features.relu() if layer < last else features
        return features

    quarter = bins // 4
    by_start = chain(stage.ends, 0, roi[:, :, :quarter].flatten(1))
    by_end = chain(stage.ends, 1, roi[:, :, -quarter:].flatten(1))
    shared = (roi.flatten(1) @ stage.shared.weights[0][0] + stage.shared.biases[0][0]).relu()
    by_center, iou, boundary = (chain(stage.heads, number, shared) for number in range(3))
    offsets = torch.cat([by_start, by_end, by_center / 2], dim=1).view(batch, num_proposals, 4)
    return StageOutput(
        proposals=proposals,
        offsets=offsets,
        iou=iou.sigmoid().view(batch, num_proposals, 2),
        boundary=boundary.sigmoid().view(batch, num_proposals, 2),
        refined=refine(proposals, offsets),
        class_logits=None,
    )


def detect(detector: Detector, features: Tensor, proposals: Tensor) -> DetectorOutput:
    """What `Detector.forward` computes."""
    x = detector.enhance(features)
    stages = []
    for stage in detector.stages:
        stages.append(evaluate_stage(stage, x, proposals))
        proposals = stages[-1].refined.detach()
    return DetectorOutput(detector.boundary(x), stages)


def loss(output: DetectorOutput, matches: Matches, target: Tensor, draw: UniformSource) -> Tensor:
    return detection_loss(output, matches, target, rules=PRESETS["paper"].loss, draw=draw)["loss"]
