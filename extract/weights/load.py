"""Weights from a file into an encoder: recognised, renamed, reshaped, and refused unless all of it is there."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...data.errors import EtadError, counted, listing
from ..encoders.adapter import AdaptedBlock
from ..encoders.convnorm import ConvNorm
from ..encoders.encoder import ENCODERS, Encoder, build_encoder, encoder_spec
from .adapters import describe_adapters, encoder_state, frozen_of, not_finite, where_frozen
from .file import WeightsFile, read_weights
from .layouts import NORM_PARTS, RecognisedWeights, detector_in, published_as, recognise
from .videomae_names import Names, is_norm_of_mean, wrong_places


@dataclass(frozen=True)
class WeightsReport:
    """What a file of weights is, and how much of an encoder it covers.

    Parameters
    ----------
    path, sha256
        The file, and the digest of its bytes.
    source
        Whose weights they are, in words.
    encoder
        Name of the encoder they were matched with.
    matched, missing
        The encoder's tensors that the file has and has not, in the file's spelling.
    mismatched
        Those of another shape, with both shapes.
    heads
        What the file holds beside an encoder, a classifier as a rule; nothing wants it.
    unexpected
        Further tensors, for which the encoder has no place.
    inflated
        Kernels of images were spread over time.
    fresh
        Tensors of the encoder, in our spelling, that such files need not have; they stay as they begin.
    """

    path: Path
    sha256: str
    source: str
    encoder: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    heads: tuple[str, ...]
    unexpected: tuple[str, ...]
    inflated: bool
    fresh: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return not (self.missing or self.mismatched or self.unexpected)

    @property
    def num_wanted(self) -> int:
        return len(self.matched) + len(self.missing) + len(self.mismatched)

    def text(self) -> str:
        """Tell it in a few lines."""
        lines = [
            f"{self.path}: {self.source} weights, sha256 {self.sha256[:12]}",
            f"cover {len(self.matched)} of {self.num_wanted} tensors of encoder {self.encoder}"
            + (", with kernels of images spread over time" if self.inflated else ""),
        ]
        for title, names in (
            ("missing", self.missing),
            ("of another shape", self.mismatched),
            ("unexpected", self.unexpected),
            ("left out, being no part of an encoder", self.heads),
            ("left as they begin, since the file has none", self.fresh),
        ):
            if names:
                lines.append(f"{title}: {listing(names)}")
        return "\n".join(lines)


def load_weights(encoder: Encoder, path: Path | str | WeightsFile, *, name: str) -> WeightsReport:
    """Fill an encoder with published or pretrained weights, all of them or none.

    Parameters
    ----------
    encoder
        What to fill, as `build_encoder(name)` makes it.
    path
        The file, or what was read of it.
    name
        The encoder's name.

    Raises
    ------
    EtadError
        The file is no checkpoint, nobody knows its names, it does not cover the encoder exactly, or it holds numbers
        that are not finite.
    """
    file = path if isinstance(path, WeightsFile) else read_weights(path)
    path = file.path
    if file.adapter is not None:
        raise EtadError(f"{path}: these are adapters, not the weights beside them. {where_frozen(frozen_of(file))}")
    source = recognise(file.tensors)
    if source is None:
        raise EtadError(
            f"{path}: holds {counted(len(file.tensors), 'tensor')} ({listing(file.tensors, 3)}), not the weights of an "
            f"encoder that etad knows. For {name}, get {encoder_spec(name).published}."
        )
    found, report = _match(encoder, file, source, name)
    if not _fits(report, file, source):
        raise EtadError(_refusal(report, file, source))
    places = wrong_places(file.tensors, source.prefix) if source.layout.transformer else None
    if places:
        raise EtadError(f"{path}: {places}. Get {encoder_spec(name).published}.")
    # The extremes tell it as surely as a look at every number, in a thirtieth of the time.
    broken = [key for key, tensor in found.items() if not torch.stack(torch.aminmax(tensor)).isfinite().all()]
    if broken:
        raise EtadError(f"{path}: {listing(broken)} hold NaN or infinity; the file is damaged. Get it again.")
    state = encoder.state_dict()
    with torch.no_grad():
        for key, tensor in found.items():
            state[key].copy_(tensor)
    encoder.loaded_from = (file.sha256, str(path.absolute()))
    return report


def encoder_checkpoint(encoder: Encoder, *, name: str) -> dict[str, Any]:
    """What a checkpoint must hold, among anything else, for `load_weights` to take it."""
    return {"encoder_name": name, **encoder_state(encoder)}


def describe(path: Path | str) -> str:
    """Say in a few lines what a file of weights is, which encoders it fits, and how to use it.

    Raises
    ------
    EtadError
        The file is no checkpoint.
    """
    file = read_weights(path)
    millions = sum(tensor.numel() for tensor in file.tensors.values()) / 1e6
    lines = [
        f"{file.path}",
        f"  {file.num_bytes / 2**20:.1f} MiB, sha256 {file.sha256}",
        f"  {counted(len(file.tensors), 'tensor')}, {millions:.2f} million numbers",
    ]
    if file.adapter is not None:
        return "\n".join([*lines, *describe_adapters(file)])
    source, detector = recognise(file.tensors), detector_in(file.tensors)
    if detector is not None:
        lines.append(f"  a detector: {detector}")
        if detector.startswith("ETAD"):
            lines.append(f"  to infer with it: etad detect --no-train --checkpoint {file.path}")
    if source is None and detector is not None:
        twin = published_as(file.tensors)
        return "\n".join([*lines, *([f"  every name and shape as published: {twin}"] if twin else [])])
    if source is None:
        return "\n".join([*lines, f"  not the weights of an encoder that etad knows: {listing(file.tensors)}"])
    written_for = f" of encoder {file.encoder_name}" if file.encoder_name else ""
    lines.append(f"  {source.kind} weights{written_for}")
    twin = published_as(file.tensors)
    if twin:
        lines.append(f"  every name and shape as published: {twin}")
    reports = _reports(file, source)
    fitting = _fitting(reports, file, source)
    for report in reports:
        verdict = "fits" if report.encoder in fitting else "does not fit"
        inflated = ", kernels of images spread over time" if report.inflated else ""
        lines.append(f"  {report.encoder}: {verdict}, {len(report.matched)} of {report.num_wanted} tensors{inflated}")
    if reports[0].heads:
        lines.append(f"  left out, being no part of an encoder: {listing(reports[0].heads)}")
    taken = next((report.matched for report in reports if report.encoder in fitting), ())
    of_encoder = {name for names in taken for name in names.split(" + ")}
    if broken := not_finite({name: file.tensors[name] for name in file.tensors if name in of_encoder}):
        lines.append(f"  cannot be used: {listing(broken, 3)} hold NaN or infinity. Get the file again")
    elif fitting:
        lines.append(f"  to use it: --weights {file.path} with encoder.name='{fitting[0]}'")
    return "\n".join(lines)


def _match(
    encoder: Encoder, file: WeightsFile, source: RecognisedWeights, name: str
) -> tuple[dict[str, Tensor], WeightsReport]:
    """Find each of the encoder's tensors in the file: by our names, and the report."""
    found: dict[str, Tensor] = {}
    matched, missing, mismatched, fresh = [], [], [], []
    used: set[str] = set()
    inflated = False
    wanted = _wanted(encoder, file, source)
    adapted = any(name in file.tensors for ours, (names, _) in wanted.items() if ".adapter." in ours for name in names)
    for ours, (names, shape) in wanted.items():
        used.update(names)
        theirs = " + ".join(names)
        if not all(name in file.tensors for name in names):
            lacks_adapter = ".adapter." in ours and not adapted
            if lacks_adapter or (source.layout.transformer and is_norm_of_mean(ours)):
                fresh.append(ours)
            else:
                missing += [name for name in names if name not in file.tensors]
            continue
        parts = [file.tensors[name] for name in names]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        fitted = _reshape(tensor, shape)
        if fitted is None:
            mismatched.append(f"{theirs} ({list(tensor.shape)}, wanted for {list(shape)})")
            continue
        inflated |= fitted.numel() > tensor.numel()
        found[ours] = fitted
        matched.append(theirs)
    # Counters of the norms say nothing that an encoder needs; older files have none.
    rest = [key for key in file.tensors if key not in used and not key.endswith(".num_batches_tracked")]
    heads = [key for key in rest if source.is_head(key)]
    report = WeightsReport(
        path=file.path,
        sha256=file.sha256,
        source=source.kind,
        encoder=name,
        matched=tuple(matched),
        missing=tuple(missing),
        mismatched=tuple(mismatched),
        heads=tuple(heads),
        unexpected=tuple(key for key in rest if key not in set(heads)),
        inflated=inflated,
        fresh=tuple(fresh),
    )
    return found, report


def _wanted(
    encoder: Encoder, file: WeightsFile, source: RecognisedWeights
) -> dict[str, tuple[tuple[str, ...], torch.Size]]:
    """Map our name of each tensor of an encoder to the file's names of its parts and the shape it must have here."""
    wanted: dict[str, tuple[tuple[str, ...], torch.Size]] = {}
    group = sum(isinstance(module, AdaptedBlock) for module in encoder.stages[-1].children())
    for path, module in encoder.named_modules():
        if isinstance(module, (ConvNorm, nn.Conv2d)):
            conv = f"{source.prefix}{source.layout.spell(path)[0]}"
            # A shifted convolution stands inside the module that shifts.
            kernel = f"{conv}.net.weight" if f"{conv}.net.weight" in file.tensors else f"{conv}.weight"
            wanted[f"{path}.weight"] = ((kernel,), module.weight.shape)
        elif isinstance(module, nn.BatchNorm2d):
            norm = f"{source.prefix}{source.layout.spell(path.removesuffix('.norm'))[1]}"
            for part in NORM_PARTS:
                wanted[f"{path}.{part}"] = ((f"{norm}.{part}",), getattr(module, part).shape)
        else:
            for name, parameter in module.named_parameters(recurse=False):
                names = _of_file(source.layout.spell_tensor(f"{path}.{name}", group), file, source.prefix)
                wanted[f"{path}.{name}"] = (names, parameter.shape)
    return wanted


def _of_file(names: Names, file: WeightsFile, prefix: str) -> tuple[str, ...]:
    """The first of the alternatives that the file has, else the first one."""
    options = [tuple(f"{prefix}{name}" for name in option) for option in names]
    return next((option for option in options if all(name in file.tensors for name in option)), options[0])


def _reshape(tensor: Tensor, shape: torch.Size) -> Tensor | None:
    """Bring a published tensor to a shape of ours; None where that cannot be done.

    Kernels of one frame lose that axis, kernels of one pixel become lines through time, and kernels of one pixel of an
    image are spread evenly over the frames (inflated), so that a still clip gives what the image gave. Frames of a
    stem's kernel become channels.
    """
    if tensor.shape == shape:
        return tensor
    if len(shape) == 4 and tensor.ndim == 5 and (len(tensor), *tensor.shape[3:]) == (shape[0], *shape[2:]):
        return tensor.reshape(shape) if tensor.shape[1] * tensor.shape[2] == shape[1] else None
    if len(shape) != 4 or tensor.ndim not in (4, 5) or tensor.shape[:2] != shape[:2]:
        return None
    if tensor.ndim == 5:
        frames, height, width = tensor.shape[2:]
        fits = (frames, (height, width)) == (1, tuple(shape[2:])) or (frames, 1, height, width) == (*shape[2:], 1, 1)
        return tensor.reshape(shape) if fits else None
    if tensor.shape[2:] == (1, 1) and shape[3] == 1:
        return (tensor / shape[2]).expand(shape)
    return None


def _reports(file: WeightsFile, source: RecognisedWeights) -> list[WeightsReport]:
    """Match a file with every encoder of the families it may be for."""
    reports = []
    for name, spec in ENCODERS.items():
        if source.families and spec.family not in source.families:
            continue
        reports.append(_match(_without_weights(name), file, source, name)[1])
    return reports


@functools.cache
def _without_weights(name: str) -> Encoder:
    """An encoder of names and shapes alone."""
    with torch.device("meta"):
        return build_encoder(name)


def _fits(report: WeightsReport, file: WeightsFile, source: RecognisedWeights) -> bool:
    family = encoder_spec(report.encoder).family
    meant = not source.families or family in source.families
    return report.complete and meant and file.encoder_name in (None, report.encoder)


def _fitting(reports: list[WeightsReport], file: WeightsFile, source: RecognisedWeights) -> list[str]:
    return [report.encoder for report in reports if _fits(report, file, source)]


def _refusal(report: WeightsReport, file: WeightsFile, source: RecognisedWeights) -> str:
    wrong = [
        f"{title} {listing(names, 3)}"
        for title, names in (
            ("missing", report.missing),
            ("of another shape", report.mismatched),
            ("unexpected", report.unexpected),
        )
        if names
    ]
    if not wrong:
        wrong = ["they were trained in another network of the same names"]
    fitting = _fitting(_reports(file, source), file, source)
    if fitting:
        advice = f"They fit encoder {' and '.join(fitting)}: set encoder.name='{fitting[0]}', or get other weights."
    else:
        advice = f"They fit no encoder of etad. For {report.encoder}, get {encoder_spec(report.encoder).published}."
    return (
        f"{file.path}: these {source.kind} weights cover {len(report.matched)} of {report.num_wanted} tensors of "
        f"encoder {report.encoder}; {'; '.join(wrong)}. {advice}"
    )
