"""Collects names and shapes as a publisher's code makes them, for the manifests of published checkpoints."""

Manifest = dict[str, object]


class Writer:
    """Collects kernels (name and shape) and norms (name and channels)."""

    def __init__(self) -> None:
        self.tensors: dict[str, list[int]] = {}
        self.norms: dict[str, int] = {}

    def conv(self, name: str, *shape: int) -> None:
        self.tensors[f"{name}.weight"] = list(shape)

    def norm(self, name: str, channels: int) -> None:
        self.norms[name] = channels

    def linear(self, name: str, classes: int, channels: int, *, bias: bool = True) -> None:
        self.tensors[f"{name}.weight"] = [classes, channels]
        if bias:
            self.tensors[f"{name}.bias"] = [classes]

    def vector(self, name: str, channels: int) -> None:
        self.tensors[name] = [channels]

    def layer_norm(self, name: str, channels: int) -> None:
        self.vector(f"{name}.weight", channels)
        self.vector(f"{name}.bias", channels)

    def tubelets(self, name: str, channels: int) -> None:
        self.conv(name, channels, 3, 2, 16, 16)
        self.vector(f"{name}.bias", channels)

    def manifest(self, source: str) -> Manifest:
        return {"source": source, "tensors": self.tensors, "norms": self.norms}
