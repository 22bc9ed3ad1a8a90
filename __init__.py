"""Temporal action detection that trains end to end on a laptop.

>>> import etad                                                     # doctest: +SKIP
>>> for each in etad.load("runs/mine").predict("new.mp4"):          # doctest: +SKIP
...     print(each.start_seconds, each.end_seconds, each.label)

What is listed in `__all__` is loaded when it is first asked for: `import etad` itself takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.annotations import Annotations, read_annotations
    from .data.cache.cache import FeatureCache
    from .data.detections import Detections, read_detections
    from .data.errors import EtadError
    from .pipeline.predict.api import Detection, Predictor, evaluate, extract_features, load
    from .pipeline.stages.evaluate import Evaluation

__version__ = "0.1.0"

__all__ = [
    "Annotations",
    "Detection",
    "Detections",
    "EtadError",
    "Evaluation",
    "FeatureCache",
    "Predictor",
    "evaluate",
    "extract_features",
    "load",
    "read_annotations",
    "read_detections",
]

_HOMES = {
    "Annotations": "data.annotations",
    "Detection": "pipeline.predict.api",
    "Detections": "data.detections",
    "EtadError": "data.errors",
    "Evaluation": "pipeline.stages.evaluate",
    "FeatureCache": "data.cache.cache",
    "Predictor": "pipeline.predict.api",
    "evaluate": "pipeline.predict.api",
    "extract_features": "pipeline.predict.api",
    "load": "pipeline.predict.api",
    "read_annotations": "data.annotations",
    "read_detections": "data.detections",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
