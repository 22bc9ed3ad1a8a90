from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from etad.extract.encoders.adapter import TemporalAdapter
from etad.extract.encoders.convnorm import ConvNorm
from etad.extract.encoders.efficientnet import Row, efficientnet_stages
from etad.extract.encoders.encoder import Encoder
from etad.extract.encoders.i3d import i3d_stages
from etad.extract.encoders.r2plus1d import r2plus1d_stages
from etad.extract.encoders.resnet import resnet_stages
from etad.extract.encoders.slowfast import slowfast_stages
from etad.extract.encoders.videomae import TransformerBlock, videomae_stages
from etad.pipeline.e2e.sgs import FirstPassCache, SgsStep, kept_map_bytes, sgs_step

TINY_ROWS = ((Row(1, 3, 1, 4), Row(1, 3, 2, 6)), (Row(1, 5, 2, 8),), (Row(2, 3, 2, 8),), (Row(1, 5, 2, 10),))
BUILDERS: dict[str, tuple[Callable[[], list[nn.Module]], int]] = {
    "tsm-basic": (lambda: resnet_stages(num_blocks=(1, 1, 1, 1), width=8, bottleneck=False, shifted_part=8), 64),
    "tsm-bottleneck": (lambda: resnet_stages(num_blocks=(1, 1, 1, 1), width=4, bottleneck=True, shifted_part=8), 128),
    "slowonly": (
        lambda: resnet_stages(num_blocks=(1, 1, 1, 1), width=4, bottleneck=True, temporal_stages=(3, 4)),
        128,
    ),
    "r2plus1d": (lambda: r2plus1d_stages(num_blocks=(1, 1, 1, 1), width=8), 64),
    # Both pathways need 8 channels.
    "slowfast": (
        lambda: slowfast_stages(num_blocks=(1, 1, 1, 1), width=8, fusion_kernel=5, alpha=2, beta=1),
        2 * 256,
    ),
    "i3d": (lambda: i3d_stages(num_blocks=(1, 1, 1, 2), width=8), 256),
    "efficientnet": (lambda: efficientnet_stages(rows=TINY_ROWS, stem_channels=4, head_channels=12), 12),
    **{
        name: (lambda kind=kind: videomae_stages(channels=8, depth=4, heads=2, patch=8, grid=4, adapter=kind), 8)
        for name, kind in {"videomae": "none", "videomae-series": "series", "videomae-side": "side"}.items()
    },
}


def build(kind: str, frozen: int, dtype: torch.dtype = torch.float64) -> tuple[Encoder, nn.Module]:
    """A tiny encoder, and a detector whose loss looks at every snippet beside its neighbours."""
    stages, channels = BUILDERS[kind]
    torch.manual_seed(0)
    adapter = kind.partition("videomae-")[2] or "none"
    encoder = Encoder(stages(), channels=channels, mean=(120, 110, 100), std=(60, 60, 60), adapter=adapter).to(dtype)
    detector = nn.Conv1d(channels, 3, 3, padding=1).to(dtype)
    generator = torch.Generator().manual_seed(0)
    for module in encoder.modules():
        if isinstance(module, ConvNorm):
            module.norm.running_mean.normal_(0, 0.2, generator=generator)
            module.norm.running_var.uniform_(0.5, 2, generator=generator)
            weight = torch.randn(module.weight.shape, dtype=dtype, generator=generator)
            module.weight.data.copy_(weight * (2 / module.weight[0].numel()) ** 0.5)
        elif isinstance(module, (TransformerBlock, TemporalAdapter)):  # whose last layers are zero, or small, at first
            for parameter in module.parameters():
                parameter.data.normal_(0, 0.3, generator=generator)
    for parameter in detector.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    return encoder.freeze(frozen).train(), detector


def make_videos(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (n, 4, 32, 32, 3), dtype=torch.uint8, generator=generator) for n in lengths]


def loss_by(detector: nn.Module) -> Callable[[Sequence[Tensor]], Tensor]:
    return lambda features: sum(detector(part.T[None]).tanh().square().sum() for part in features)


def gradients(*modules: nn.Module) -> dict[str, Tensor | None]:
    return {
        f"{place}.{name}": None if parameter.grad is None else parameter.grad.clone()
        for place, module in enumerate(modules)
        for name, parameter in module.named_parameters()
    }


def ordinary(encoder: Encoder, detector: nn.Module, videos: list[Tensor], samples: list[Tensor]) -> dict:
    """Gradients of one graph through everything, cut at the features of snippets that are not sampled."""
    encoder.zero_grad(), detector.zero_grad()
    features = []
    for video, sample in zip(videos, samples):
        mask = torch.zeros(len(video), 1, dtype=torch.bool)
        mask[sample] = True
        encoded = encoder(encoder.normalise(video))
        features.append(torch.where(mask, encoded, encoded.detach()))
    loss_by(detector)(features).backward()
    found = gradients(encoder, detector)
    encoder.zero_grad(), detector.zero_grad()
    return found


def run(encoder: Encoder, detector: nn.Module, videos: list[Tensor], samples: object, **how: object) -> SgsStep:
    return sgs_step(encoder, videos, loss_by(detector), samples=samples, **how)


def assert_equal(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("frozen", [0, 2])
@pytest.mark.parametrize("kind", BUILDERS)
def test_sampling_everything_is_ordinary_back_propagation(kind: str, frozen: int) -> None:
    encoder, detector = build(kind, frozen)
    videos = make_videos(5, 3)
    everything = [torch.arange(5), torch.arange(3)]
    expected = ordinary(encoder, detector, videos, everything)
    reached = [name for name, gradient in expected.items() if gradient is not None]
    assert any(name.startswith(f"0.stages.{frozen + 1}.") for name in reached)
    assert not any(name.startswith(f"0.stages.{frozen}.") for name in reached)
    for micro_batch in (1, 3, 8):
        for keep in ("nothing", "maps", "graphs"):
            step = run(encoder, detector, videos, everything, micro_batch=micro_batch, first_pass_cache=keep)
            assert_equal(gradients(encoder, detector), expected)
            assert (step.kept_bytes > 0) == (keep == "maps")
            encoder.zero_grad(), detector.zero_grad()


@pytest.mark.parametrize("kind", ["tsm-basic", "videomae", "videomae-series", "videomae-side"])
@pytest.mark.parametrize("keep", ["nothing", "maps", "graphs"])
def test_recomputing_blocks_changes_no_gradient_of_the_part_sampled(kind: str, keep: FirstPassCache) -> None:
    encoder, detector = build(kind, 1)
    videos, samples = make_videos(4, 3), [torch.tensor([3, 0]), torch.tensor([1])]
    how = dict(micro_batch=2, first_pass_cache=keep)
    run(encoder, detector, videos, samples, **how)
    expected = gradients(encoder, detector)
    assert_equal(expected, ordinary(encoder, detector, videos, samples))
    encoder.zero_grad(), detector.zero_grad()
    run(encoder, detector, videos, samples, recompute=True, **how)
    for name, gradient in gradients(encoder, detector).items():
        assert (gradient is None) == (expected[name] is None), name
        assert gradient is None or torch.equal(gradient, expected[name]), name


@pytest.mark.parametrize("kind", BUILDERS)
def test_in_float32_sampling_everything_is_as_close_as_rounding_lets_it(kind: str) -> None:
    encoder, detector = build(kind, 0, torch.float32)
    videos, everything = make_videos(5, 3), [torch.arange(5), torch.arange(3)]
    expected = ordinary(encoder, detector, videos, everything)
    for micro_batch, keep in ((1, "maps"), (3, "nothing"), (8, "graphs")):
        run(encoder, detector, videos, everything, micro_batch=micro_batch, first_pass_cache=keep)
        for name, gradient in gradients(encoder, detector).items():
            if gradient is not None:
                # Of so many ReLUs, single ones have inputs that round to the other side of 0.
                bound = (1e-4 if kind in ("slowfast", "i3d") else 1e-5) * expected[name].norm()
                assert (gradient - expected[name]).norm() <= bound, (micro_batch, name)
        encoder.zero_grad(), detector.zero_grad()


@pytest.mark.parametrize("keep", ["nothing", "maps", "graphs"])
@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_a_part_sampled_is_back_propagation_through_exactly_that_part(keep: FirstPassCache, micro_batch: int) -> None:
    encoder, detector = build("tsm-basic", 1)
    videos = make_videos(6, 4)
    samples = [torch.tensor([4, 0, 5]), torch.tensor([2])]
    expected = ordinary(encoder, detector, videos, samples)
    shares: list[float] = []
    how = {"micro_batch": micro_batch, "first_pass_cache": keep, "report": shares.append}
    step = run(encoder, detector, videos, samples, **how)
    assert_equal(gradients(encoder, detector), expected)
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) >= 10 / micro_batch, "a bar can show the step"
    everything = ordinary(encoder, detector, videos, [torch.arange(6), torch.arange(4)])
    name = next(name for name, gradient in expected.items() if gradient is not None)
    assert not torch.allclose(expected[name], everything[name])
    assert [part.shape[0] for part in step.features] == [6, 4]
    for part, video in zip(step.features, videos):
        torch.testing.assert_close(part, encoder(encoder.normalise(video)).detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("keep", ["nothing", "maps"])
def test_samples_may_be_chosen_by_the_features(keep: FirstPassCache) -> None:
    encoder, detector = build("slowonly", 2)
    videos = make_videos(6, 4)

    def brightest(features: Sequence[Tensor]) -> list[Tensor]:
        return [part.sum(1).argsort(descending=True)[:2] for part in features]

    with torch.no_grad():
        samples = brightest([encoder(encoder.normalise(video)) for video in videos])
    expected = ordinary(encoder, detector, videos, samples)
    step = run(encoder, detector, videos, brightest, micro_batch=3, first_pass_cache=keep)
    assert_equal(gradients(encoder, detector), expected)
    for found, wanted in zip(step.samples, samples):
        assert torch.equal(found, wanted)
    assert (step.kept_bytes > 0) == (keep == "maps")


@pytest.mark.parametrize("keep", ["nothing", "maps", "graphs"])
def test_nothing_sampled_leaves_no_gradient_and_the_optimiser_leaves_the_encoder(keep: FirstPassCache) -> None:
    encoder, detector = build("tsm-basic", 0)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    optimiser = torch.optim.AdamW([*encoder.parameters(), *detector.parameters()], lr=0.1, weight_decay=0.5)
    run(encoder, detector, make_videos(3), [torch.tensor([], dtype=torch.long)], micro_batch=2, first_pass_cache=keep)
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(parameter.grad is not None for parameter in detector.parameters())
    optimiser.step()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_wholly_frozen_encoder_still_trains_the_detector() -> None:
    encoder, detector = build("tsm-basic", 4)
    run(encoder, detector, make_videos(3), [torch.arange(3)], micro_batch=2, first_pass_cache="maps")
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert all(parameter.grad is not None for parameter in detector.parameters())


def test_gradients_of_several_steps_add_up_and_scale_with_the_loss() -> None:
    encoder, detector = build("r2plus1d", 1)
    videos, samples = make_videos(4), [torch.tensor([1, 3])]
    once = ordinary(encoder, detector, videos, samples)
    for _ in range(2):
        sgs_step(encoder, videos, lambda x: 8 * loss_by(detector)(x), samples=samples, micro_batch=2)
    expected = {name: None if gradient is None else 16 * gradient for name, gradient in once.items()}
    assert_equal(gradients(encoder, detector), expected)


def test_features_that_the_loss_ignores_give_the_encoder_no_gradient() -> None:
    encoder, _ = build("tsm-basic", 0)
    free = nn.Parameter(torch.ones(()))
    sgs_step(encoder, make_videos(2), lambda features: free * 2, samples=[torch.arange(2)], micro_batch=2)
    assert free.grad is not None
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.parametrize("keep", ["nothing", "maps", "graphs"])
def test_autocast_computes_roughly_the_same_and_hands_over_float32(keep: FirstPassCache) -> None:
    encoder, detector = build("tsm-bottleneck", 1, torch.float32)
    videos, samples = make_videos(4), [torch.tensor([0, 2, 3])]
    exact = ordinary(encoder, detector, videos, samples)
    step = run(encoder, detector, videos, samples, micro_batch=2, first_pass_cache=keep, autocast=torch.bfloat16)
    assert step.features[0].dtype == torch.float32
    for name, gradient in gradients(encoder, detector).items():
        if gradient is not None:
            assert gradient.dtype == torch.float32
            assert (gradient - exact[name]).norm() < 0.15 * exact[name].norm() + 1e-3, name


def test_the_cost_of_kept_maps_is_known_beforehand() -> None:
    encoder, detector = build("tsm-basic", 2)
    videos = make_videos(6)
    step = run(encoder, detector, videos, [torch.arange(4)], micro_batch=3, first_pass_cache="maps")
    assert step.kept_bytes == 4 * kept_map_bytes(encoder, videos[0][0])
    assert kept_map_bytes(encoder.freeze(-1), videos[0][0]) == 0


def test_norms_that_learn_and_samples_that_do_not_exist_are_our_own_mistakes() -> None:
    encoder, detector = build("tsm-basic", 0)
    with pytest.raises(AssertionError):
        run(encoder, detector, make_videos(3), [torch.tensor([3])], micro_batch=2)
    with pytest.raises(AssertionError):
        run(encoder, detector, make_videos(3), [torch.tensor([1, 1])], micro_batch=2)
    with pytest.raises(AssertionError):
        run(
            encoder,
            detector,
            make_videos(3),
            lambda features: [torch.arange(1)],
            micro_batch=2,
            first_pass_cache="graphs",
        )
    encoder.freeze(0, bn_training=True).train()
    with pytest.raises(AssertionError):
        run(encoder, detector, make_videos(3), [torch.tensor([0])], micro_batch=2)
