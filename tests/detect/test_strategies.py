"""A row of the table is all that a new strategy takes."""

import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from etad.data.errors import EtadError
from etad.detect import strategies
from etad.detect.sampling import positions
from etad.detect.sampling.population import Population, sample_sequence, sample_size
from etad.detect.sampling.proposals import ProposalSampler
from etad.detect.strategies import Strategy, find_strategy
from etad.pipeline.config import load_config
from etad.pipeline.e2e.samples import draw_samples


def sample_loudest(population: Population, *, count: int, ratio: float, generator: torch.Generator) -> Tensor:
    assert population.features is not None
    return population.features.norm(dim=2).topk(count, dim=1).indices.sort(dim=1).values


def weigh_largest(
    gradients: Sequence[Tensor], features: Sequence[Tensor], counts: Sequence[int], **_: object
) -> list[tuple[Tensor, Tensor]]:
    found = [part.norm(dim=1).topk(count).indices.sort().values for part, count in zip(gradients, counts, strict=True)]
    return [(indices, 2 * part[indices]) for indices, part in zip(found, gradients)]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, needs, function in (
        ("loudest", "features", sample_loudest),
        ("largest", "gradients", weigh_largest),
    ):
        monkeypatch.setattr(positions, function.__name__, function, raising=False)
        row = Strategy(name=name, needs=needs, function=f"positions:{function.__name__}", rounds_up=True)  # type: ignore[arg-type]
        monkeypatch.setitem(strategies.STRATEGIES, name, row)


@pytest.mark.usefixtures("rows")
def test_a_new_row_is_taken_by_both_settings_and_sampled_by() -> None:
    config = load_config(
        None,
        [
            "detect.sampling.strategy=loudest",
            "e2e.strategy=loudest",
            "detect.num_snippets=16",
            "detect.max_duration=16",
            "detect.bins=4",
            "detect.sampling.ratio=0.1",
        ],
    )
    # 1. Snippets, of which features say the choice.
    features = torch.zeros(1, 5, 2)
    features[0, [1, 3, 4]] = torch.tensor([[1.0], [3.0], [2.0]])
    random = torch.Generator()
    assert sample_size("loudest", 5, 0.3) == 2
    chosen = sample_sequence("loudest", num_draws=1, num_items=5, count=2, generator=random, features=features)
    assert chosen.tolist() == [[3, 4]]
    later = draw_samples(config.e2e.strategy, [5], ratio=0.3, chunk=1, generator=random)
    assert callable(later) and [each.tolist() for each in later(list(features))] == [[3, 4]]
    # 2. Proposals: those around the loudest snippet alone.
    enhanced = torch.zeros(2, 256, 16)
    enhanced[0, :, 2] = enhanced[1, :, 12] = 1.0
    first, second = ProposalSampler(config.detect)(enhanced, random)
    assert ((first[:, 0] <= 3 / 16) & (first[:, 1] >= 1 / 16)).all()
    assert ((second[:, 0] <= 13 / 16) & (second[:, 1] >= 11 / 16)).all()


@pytest.mark.usefixtures("rows")
def test_a_row_that_needs_gradients_samples_snippets_and_is_refused_for_proposals() -> None:
    assert load_config(None, ["e2e.strategy=largest"]).e2e.strategy == "largest"
    draw = draw_samples("largest", [4], ratio=0.5, chunk=1, generator=torch.Generator())
    gradients = torch.tensor([[1.0], [0.0], [-3.0], [0.0]])
    ((indices, sent),) = draw.draw([gradients], [torch.zeros(4, 1)])  # type: ignore[union-attr]
    assert indices.tolist() == [0, 2] and sent.tolist() == [[2.0], [-6.0]]
    with pytest.raises(EtadError, match=r"strategy='largest': .* 'largest' chooses by gradients, which only snippets"):
        load_config(None, ["detect.sampling.strategy=largest"])


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(("name", "needs"), [("loudest", "features"), ("largest", "gradients")])
def test_what_a_new_row_needs_decides_whether_graphs_can_be_kept(name: str, needs: str) -> None:
    with pytest.raises(EtadError, match=f"strategy='{name}' chooses by {needs}; take first_pass_cache='maps'"):
        load_config(None, ["e2e.first_pass_cache=graphs", f"e2e.strategy={name}"])


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("detect.sampling.strategy", "random, grid, block, fps, dpp"),
        ("e2e.strategy", "random, grid, block, fps, dpp, gradnorm, coreset"),
    ],
)
def test_an_unknown_name_is_told_the_known_ones(key: str, known: str) -> None:
    with pytest.raises(EtadError) as caught:
        load_config(None, [f"{key}=randm"])
    assert str(caught.value).endswith(
        f"{key}='randm': the sampling strategy 'randm' is unknown. Did you mean 'random'? Known here: {known}."
    )
    with pytest.raises(EtadError, match=f"{key}=3: expected a text, in quotes"):
        load_config(None, [f"{key}=3"])


@pytest.mark.parametrize("name", strategies.STRATEGIES)
def test_every_row_names_a_function_that_is_there(name: str) -> None:
    assert find_strategy(name, gradients=True).name == name
    assert callable(strategies.STRATEGIES[name].load())


def test_settings_and_table_load_no_torch() -> None:
    code = "import sys, etad.pipeline.config, etad.detect.strategies; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
