"""Train the small RepVGG on CIFAR-10 and export it: ``python -m experiments.train_repvgg``.

Training stops after a given processor time, to which the learning rate is annealed. Two runs therefore
do not give the same weights. Needs ``pip install -e '.[train]'`` and cifar10-jpeg.zip. The accuracy on the
test part is printed at the end. The weights in the repository, with which the committed tables were made,
come from an earlier recipe.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from . import data
from .prepare import TOLERANCE, export

try:
    import onnxruntime
    import torch
    from torch import Tensor, nn
    from torch.nn import functional
except ImportError as error:
    raise SystemExit(f"experiments: {error}: pip install -e '.[train]'") from None

WEIGHTS = Path(__file__).with_name("weights") / "repvgg-small-cifar10.onnx"
MEAN, SD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)

LAYOUT = ((32, 1), (32, 1), (48, 2), (48, 1), (96, 2), (96, 1), (96, 1), (192, 2), (192, 1))
"""Width and stride of the stem and the 8 blocks."""

BATCH = 128
PEAK_RATE = 0.2
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
WARM_UP = 0.2
LABEL_SMOOTHING = 0.1
SHIFT = 4


class Branches(nn.Module):
    """A RepVGG layer in training: 3 x 3, 1 x 1 and, where shapes allow it, the identity."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.wide_norm = nn.BatchNorm2d(width)
        self.point = nn.Conv2d(before, width, 1, stride, bias=False)
        self.point_norm = nn.BatchNorm2d(width)
        same = before == width and stride == 1
        self.straight_norm = nn.BatchNorm2d(width) if same else None

    def forward(self, x: Tensor) -> Tensor:
        """The sum of the branches."""
        y = self.wide_norm(self.wide(x)) + self.point_norm(self.point(x))
        return y if self.straight_norm is None else y + self.straight_norm(x)

    def fused(self) -> nn.Conv2d:
        """The single convolution that is equal to it in evaluation mode."""
        parts = [
            _folded(self.wide.weight, self.wide_norm),
            _folded(functional.pad(self.point.weight, (1, 1, 1, 1)), self.point_norm),
        ]
        if self.straight_norm is not None:
            straight = torch.zeros_like(self.wide.weight)
            straight[:, :, 1, 1] = torch.eye(len(straight))
            parts.append(_folded(straight, self.straight_norm))
        wide = self.wide
        one = nn.Conv2d(wide.in_channels, wide.out_channels, 3, wide.stride, 1)
        one.weight.data = torch.stack([weight for weight, _ in parts]).sum(0).contiguous()
        one.bias.data = torch.stack([bias for _, bias in parts]).sum(0)
        return one


def _folded(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return (weight * scale[:, None, None, None]).detach(), (
        norm.bias - norm.running_mean * scale
    ).detach()


class RepVGG(nn.Module):
    """(n, 3, 32, 32) to (n, 10) logits: 0.84 M parameters in training, 0.75 M when fused."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width, stride in LAYOUT:
            layers += [nn.Sequential(Branches(before, width, stride), nn.ReLU())]
            before = width
        self.f = nn.Sequential(*layers)
        self.h = nn.Linear(before, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.h(self.f(x).mean((2, 3)))

    def fused(self) -> RepVGG:
        """The same function with one convolution per layer."""
        plain = RepVGG()
        layers = [nn.Sequential(layer[0].fused(), nn.ReLU()) for layer in self.f]
        plain.f = nn.Sequential(*layers)
        plain.h.load_state_dict(self.h.state_dict())
        return plain.eval()


def normalised(images: np.ndarray) -> Tensor:
    """(n, 32, 32, 3) uint8 to (n, 3, 32, 32) float32."""
    scaled = (images.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(SD)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, and shift each by up to 4 pixels along each axis."""
    n, side = len(images), images.shape[-1]
    mirrored = torch.rand(n, generator=generator) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    padded = functional.pad(images, (SHIFT,) * 4)
    corner = torch.randint(2 * SHIFT + 1, (2, n, 1), generator=generator)
    rows, columns = corner + torch.arange(side)
    image, channel = torch.arange(n)[:, None, None, None], torch.arange(3)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def rate(share: float) -> float:
    """The learning rate after this share of the time: linear increase, then linear decrease to 0."""
    if share < WARM_UP:
        return PEAK_RATE * share / WARM_UP
    return PEAK_RATE * max(0.0, 1 - share) / (1 - WARM_UP)


def bfloat16_is_faster(batch: Tensor) -> bool:
    """True if a training step is faster in bfloat16, which some processors only emulate."""
    network = RepVGG().to(memory_format=torch.channels_last)
    seconds = {}
    for half in (False, True):
        for _ in range(3):  # the first runs include one-time work
            began = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                outputs = network(batch)
            outputs.float().mean().backward()
            seconds[half] = time.process_time() - began
    return seconds[True] < seconds[False]


def train(images: np.ndarray, labels: np.ndarray, minutes: float, seed: int) -> RepVGG:
    """Train for a given time.

    Parameters
    ----------
    images : ndarray, shape (n, 32, 32, 3), uint8
    labels : ndarray, shape (n,), int64
    minutes : float
        Processor time per thread.
    seed : int
        Of the initial weights, the order of the images and their augmentation. The number of steps
        depends on the processor.

    Returns
    -------
    RepVGG
        The trained network, in evaluation mode.
    """
    half = bfloat16_is_faster(_batch(images[:BATCH]))
    print(f"computing in {'bfloat16' if half else 'float32'}")
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    # Faster on CPUs than the default layout.
    network = RepVGG().to(memory_format=torch.channels_last)
    print(f"{sum(weight.numel() for weight in network.parameters()):,} parameters in training")
    optimizer = torch.optim.SGD(
        network.parameters(), PEAK_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    start, epoch, share = time.process_time(), 0, 0.0
    whole = 60 * minutes * torch.get_num_threads()
    while share < 1:
        total, steps = 0.0, 0
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            share = (time.process_time() - start) / whole
            if share >= 1:
                break
            optimizer.param_groups[0]["lr"] = rate(share)
            batch = _batch(images[chosen.numpy()], generator)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                outputs = network(batch)
            loss = functional.cross_entropy(
                outputs.float(),
                torch.from_numpy(labels[chosen]),
                label_smoothing=LABEL_SMOOTHING,
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, steps = total + loss.item(), steps + 1
        epoch += 1
        print(f"epoch {epoch}: loss {total / max(1, steps):.3f} over {steps} batches", flush=True)
    return network.eval()


def _batch(images: np.ndarray, generator: torch.Generator | None = None) -> Tensor:
    batch = normalised(images)
    if generator is not None:
        batch = augment(batch, generator)
    return batch.contiguous(memory_format=torch.channels_last)


def main() -> None:
    """Train, fuse, export, check and print the accuracy on the test part."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.train_repvgg", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=20.0,
        help="processor time per thread (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--threads", type=int, default=1, help="torch threads (default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=WEIGHTS,
        help="output file (default: the weights in the repository)",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        network = train(*data.cifar10("train"), options.minutes, options.seed)
        images, labels = data.cifar10("test")
    except data.MissingData as error:
        raise SystemExit(f"experiments: {error}") from None
    fused = network.fused()
    inputs = normalised(images)
    with torch.no_grad():
        error = float((network(inputs[:64]) - fused(inputs[:64])).abs().max())
    if error > TOLERANCE:
        raise SystemExit(f"the fused network differs from the trained one by {error:.1e}")
    print(f"the fused network differs from the trained one by {error:.1e} at most")
    content = export(fused, (3, 32, 32), "repvgg")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"x": part.numpy()})[0] for part in inputs.split(500)]
    right = np.concatenate(parts).argmax(1) == labels
    print(f"test accuracy: {right.mean():.2%} of {len(labels):,}")
    options.output.write_bytes(content)
    print(f"wrote {options.output.name}, {len(content):,} bytes")


if __name__ == "__main__":
    main()
