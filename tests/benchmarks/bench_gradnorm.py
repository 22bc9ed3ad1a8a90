"""How close a sampled encoder gradient comes to the full one, by strategy and share of the snippets.

A small encoder and a detector are trained together on a synthetic set for a while; then, for each of its training
videos, the gradient that each snippet alone sends into the encoder is computed. Every sampled gradient is a weighted
sum of those, so that many draws cost nothing. Without weights of their own, samples are scaled by 1 / gamma: unscaled
ones have the same direction, and an error of about 1 - gamma. `coreset` sends sums of gradients, once, for nothing is
drawn; here it shares none among videos.

The table's plain way is sampling at random.

Run as `python tests/benchmarks/bench_gradnorm.py [--epochs 3] [--draws 200] [--weights encoder.pt]`.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measure import Row, compare, report
from torch import Tensor

from etad.data.annotations import read_annotations
from etad.data.synthetic.dataset import SyntheticSpec, make_dataset
from etad.detect.loading import collate
from etad.detect.sampling.coreset import cover
from etad.detect.sampling.gradnorm import sample_by_norm
from etad.detect.sampling.population import sample_sequence, sample_size
from etad.extract.clips import Failure
from etad.pipeline.config import load_config
from etad.pipeline.e2e.setup import E2eSetup
from etad.pipeline.e2e.train import E2eTrainer
from etad.pipeline.run_folder import RunFolder
from etad.pipeline.stages.extract import find_sources, load_encoder
from etad.pipeline.stages.result import StageNotes

RATIOS = (0.05, 0.1, 0.3)
SETS = [
    "encoder.init=random",
    "encoder.frozen_stages=0",
    "workers=0",
    "e2e.validate_epochs=false",
    "e2e.batch=2",
    "e2e.cache_frozen=0",
]
# From the norms of the features' gradients, their features, how many, and randomness: the weight of each snippet.
Weigh = Callable[[Tensor, Tensor, int, torch.Generator], Tensor]


@dataclass(frozen=True)
class Alone:
    """What each snippet of a window sends into the encoder by itself.

    Parameters
    ----------
    norms, own
        Norms of its feature's gradient and of the encoder's, (T,) each.
    products
        Of the encoder's gradients with each other, (T, T).
    features, feature_gradients
        (T, C) each.
    whole
        The encoder's gradient by all of them.
    send
        The encoder's gradient by what is sent into it at some snippets, (k, C).
    """

    norms: Tensor
    own: Tensor
    products: Tensor
    features: Tensor
    feature_gradients: Tensor
    whole: Tensor
    send: Callable[[Tensor, Tensor], Tensor]

    def by_representatives(self, count: int) -> tuple[float, float]:
        """Cosine similarity and relative error of what representatives send."""
        sent = self.send(*cover(self.feature_gradients, self.features, most=count).sums(self.feature_gradients, count))
        cosine = torch.cosine_similarity(sent, self.whole, dim=0)
        return cosine.item(), ((sent - self.whole).norm() / self.whole.norm()).item()


def scaled(strategy: str) -> Weigh:
    def weigh(norms: Tensor, features: Tensor, count: int, generator: torch.Generator) -> Tensor:
        total = len(norms)
        how = {"num_draws": 1, "num_items": total, "count": count, "generator": generator}
        (chosen,) = sample_sequence(strategy, **how, features=features[None])
        return torch.zeros(total, dtype=torch.float64).index_fill_(0, chosen, total / count)

    return weigh


def by_norm(norms: Tensor, features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    indices, weights = sample_by_norm(norms, count, generator=generator)
    return torch.zeros(len(norms), dtype=torch.float64).index_put_((indices,), weights)


def snippets_alone(trainer: E2eTrainer, number: int) -> Alone:
    (frames,) = next(trainer.clips.of([[number]], 1000))
    assert not isinstance(frames, Failure)
    encoder = trainer.encoder
    with torch.no_grad():
        features = encoder(encoder.normalise(frames))
    leaf = features.clone().requires_grad_()
    values, mask = collate([leaf], trainer.detect.num_snippets)
    parts = trainer.objective(
        trainer.detector,
        [trainer.clips.windows[number]],
        values,
        mask,
        generator=torch.Generator().manual_seed(7),
        training=True,
    )
    parts["loss"].backward()
    assert leaf.grad is not None
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]

    def send(indices: Tensor, values: Tensor) -> Tensor:
        found = torch.autograd.grad(encoder(encoder.normalise(frames[indices])), trained, values)
        return torch.cat([each.flatten() for each in found])

    gradients = torch.stack([send(row, leaf.grad[row]) for row in torch.arange(len(frames)).split(1)])
    products = (gradients @ gradients.T).double()
    return Alone(
        norms=leaf.grad.norm(dim=1).double(),
        own=products.diagonal().sqrt(),
        products=products,
        features=features,
        feature_gradients=leaf.grad,
        whole=gradients.sum(dim=0),
        send=send,
    )


def closeness(products: Tensor, weights: Tensor) -> tuple[float, float]:
    """Cosine similarity and relative error of a weighted sum of gradients to their plain sum."""
    ones = torch.ones_like(weights)
    whole = ones @ products @ ones
    inner, own = weights @ products @ ones, weights @ products @ weights
    error = (weights - ones) @ products @ (weights - ones)
    return (inner / (own * whole).sqrt()).item(), (error / whole).sqrt().item()


def unevenness(norms: Tensor) -> str:
    ordered = norms.sort(descending=True).values
    share = ordered[: max(1, round(0.1 * len(ordered)))].sum() / ordered.sum()
    deviation = (norms.std() / norms.mean()).item()
    return f"standard deviation / mean {deviation:.2f}, largest tenth has {share:.0%} of the sum"


def measured(trainer: E2eTrainer, videos: Sequence[int], draws: int, when: str) -> list[Row]:
    trainer.encoder.eval(), trainer.detector.train()
    alone = [snippets_alone(trainer, number) for number in videos]
    snippets = len(alone[0].norms)
    print(f"\n{when}: {len(videos)} videos of {snippets} snippets, {draws} draws each")
    print(
        "norms of the features' gradients: " + unevenness(torch.cat([each.norms / each.norms.mean() for each in alone]))
    )
    became = torch.cat([each.own / each.own.mean() for each in alone])
    print("norms of what they become in the encoder: " + unevenness(became))
    print(f"{'':>28}" + "".join(f"{f'gamma {ratio:.0%}':>18}" for ratio in RATIOS))
    print(f"{'':>28}" + f"{'cosine':>10}{'error':>8}" * len(RATIOS))
    ways: dict[str, Weigh] = {name: scaled(name) for name in ("random", "grid", "block", "fps", "dpp")}
    errors: dict[str, list[float]] = {}
    for name, weigh in (*ways.items(), ("gradnorm", by_norm), ("the best norms to go by", by_norm)):
        found = defaultdict(list)
        for ratio in RATIOS:
            count = max(1, sample_size("gradnorm", snippets, ratio))
            for place, each in enumerate(alone):
                generator = torch.Generator().manual_seed(place)
                used = each.own if name.startswith("the best") else each.norms
                repeats = 1 if name == "grid" else draws if weigh is by_norm or name in ("random", "block") else 20
                for _ in range(repeats):
                    found[ratio].append(closeness(each.products, weigh(used, each.features, count, generator)))
        means = [np.mean(found[ratio], axis=0) for ratio in RATIOS]
        errors[name] = [error for _, error in means]
        print(f"{name:>28}" + "".join(f"{cosine:>10.3f}{error:>8.2f}" for cosine, error in means), flush=True)
    counts = [max(1, sample_size("coreset", snippets, ratio)) for ratio in RATIOS]
    means = [np.mean([each.by_representatives(count) for each in alone], axis=0) for count in counts]
    errors["coreset"] = [error for _, error in means]
    print(f"{'coreset':>28}" + "".join(f"{cosine:>10.3f}{error:>8.2f}" for cosine, error in means), flush=True)
    return [
        Row(f"relative error of the encoder's gradient, gamma {ratio:.0%}, {name}, {when}", ours, "", plain)
        for name in ("gradnorm", "coreset")
        for ratio, ours, plain in zip(RATIOS, errors[name], errors["random"])
    ] + choosing(alone[0])


def choosing(alone: Alone) -> list[Row]:
    generator, norms, features = torch.Generator().manual_seed(0), alone.norms, alone.features
    count = sample_size("gradnorm", len(norms), RATIOS[-1])
    at_random = scaled("random")
    ways: dict[str, Callable[[], object]] = {
        "by norm": lambda: by_norm(norms, features, count, generator),
        "that represent the others": lambda: cover(alone.feature_gradients, features, most=count),
    }
    return [
        compare(
            f"choosing {count} of {len(norms)} snippets {name}",
            plain=lambda: at_random(norms, features, count, generator),
            ours=ours,
            unit="ms",
            repeats=20,
            headline=False,
        )
        for name, ours in ways.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--weights", type=Path, help="encoder weights of tsm_tiny; random by default")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = SyntheticSpec(num_videos=asked.videos + 2, validation_share=0.2)
        path = make_dataset(folder / "data", spec)
        sets = [*SETS, f"e2e.epochs={max(asked.epochs, 1)}", "e2e.encoder_lr=1e-4", "e2e.detector_lr=1e-3"]
        paths = [f"data.annotations={path}", f"data.videos={path.parent / 'videos'}"]
        config = load_config("demo", [*sets, *paths])
        annotations, run = read_annotations(path), RunFolder(folder / "run")
        encoder, sha256, _ = load_encoder(config, run, asked.weights)
        encoder.freeze(config.encoder.frozen_stages)
        sources = find_sources(config, annotations, None)
        setup = E2eSetup(config, run, sources, annotations, torch.device("cpu"), StageNotes(run.e2e), config.to_tree())
        trainer = setup.trainer(encoder, sha256, None)
        videos = [n for n, window in enumerate(trainer.clips.windows) if len(window.labels)][:4]
        table = measured(trainer, videos, asked.draws, "before training")
        if asked.epochs:
            trainer.run()
            table += measured(trainer, videos, asked.draws, f"after {asked.epochs} epochs")
    report(table, title="Sampled gradients of the encoder")


if __name__ == "__main__":
    main()
