"""Train the digits network that ships with the package: ``python examples/digits/train.py``."""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path

import numpy as np

try:
    import torch
    from data import held_out, training
    from model import CONFIG, PRESET, DigitsNet, export
    from sklearn.model_selection import train_test_split
    from torch import Tensor, nn
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
except ImportError as error:
    raise SystemExit(
        "this example needs scikit-learn and PyTorch: pip install '.[demo,torch]' in a clone of "
        f"vgg_cuda ({error})"
    ) from None

from vgg_cuda import VGG
from vgg_cuda.images.batches import open_image
from vgg_cuda.weights import Weights, save

OUTPUT = Path(__file__).resolve().parents[2] / "vgg_cuda" / "data" / "digits.safetensors"
SEED = 0
THREADS = 1  # fixed, because it decides the order of sums; more gain little on such small tensors

EPOCHS = 40
BATCH = 64
PEAK_RATE = 4e-3
WEIGHT_DECAY = 0.02
LABEL_SMOOTHING = 0.05
EMA_DECAY = 0.99  # averages about the last 100 of some 900 steps

MAX_ROTATION = 15.0  # degrees
MAX_SHEAR = 0.3
MAX_SCALE = 0.12
MAX_SHIFT = 0.125  # of the side: one pixel of the 8 x 8 scan
MAX_NOISE = 0.6  # standard deviation, in units of normalized inputs


def prepare(images: np.ndarray) -> Tensor:
    """Return uint8 scans [N,8,8] as inputs [N,3,32,32], preprocessed as by ``VGG.classify``."""
    x = np.stack([PRESET(open_image(image)) for image in images])
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return x [N,3,32,32] with a random affine map and random noise per image."""
    n = len(x)

    def uniform(limit: float, *shape: int) -> Tensor:
        return (torch.rand(n, *shape, generator=generator) * 2 - 1) * limit

    angle = uniform(MAX_ROTATION * np.pi / 180)
    shear = uniform(MAX_SHEAR)
    scale = 1 + uniform(MAX_SCALE, 2)
    shift = uniform(MAX_SHIFT, 2) * 2  # the grid spans -1..1
    cos, sin = angle.cos(), angle.sin()
    rows = torch.stack(
        [
            torch.stack([cos * scale[:, 0], (shear * cos - sin) * scale[:, 1], shift[:, 0]], 1),
            torch.stack([sin * scale[:, 0], (shear * sin + cos) * scale[:, 1], shift[:, 1]], 1),
        ],
        1,
    )  # [N,2,3]
    grid = nn.functional.affine_grid(rows, list(x.shape), align_corners=False)
    # pad with background, which is 0 before normalization only
    background = torch.from_numpy(PRESET.normalize(np.zeros((1, 1, 3), np.uint8)))
    background = background.permute(2, 0, 1)  # [3,1,1]
    x = nn.functional.grid_sample(x - background, grid, align_corners=False) + background
    strength = torch.rand(n, 1, 1, 1, generator=generator) * MAX_NOISE
    noise = torch.randn(n, 1, *x.shape[2:], generator=generator)  # grey: equal in all channels
    return x + strength * noise


def fit(x: Tensor, labels: Tensor, epochs: int, seed: int = SEED) -> DigitsNet:
    """Train on x [N,3,32,32] and labels [N] and return a network with averaged weights."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = DigitsNet(CONFIG)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY), use_buffers=True)
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    steps = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, total_steps=epochs * steps, pct_start=0.15
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for batch in order[: steps * BATCH].view(steps, BATCH):
            loss = loss_of(net(augment(x[batch], generator)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(net)
    return average.module.eval()


def accuracy(weights: Weights, images: np.ndarray, labels: np.ndarray) -> str:
    """Return the accuracy of ``VGG.classify`` on scans [N,8,8] as text: "355 of 360 (98.61 %)"."""
    found = VGG(weights, device="cpu").classify(list(images), top_k=1)
    correct = sum(best.index == label for [best], label in zip(found, labels, strict=True))
    return f"{correct} of {len(labels)} ({100 * correct / len(labels):.2f} %)"


def digest(weights: Weights) -> str:
    """Return the SHA-256 of all tensors, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(weights.tensors):
        total.update(name.encode() + weights.tensors[name].tobytes())
    return total.hexdigest()


def main() -> None:
    """Validate the settings within the training part, train on all of it, test once and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: %(default)s")
    output = parser.parse_args().output
    start = time.perf_counter()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)

    images, labels = training()
    x, y = prepare(images), torch.from_numpy(labels)
    fitted, validation = train_test_split(
        np.arange(len(x)), test_size=0.2, stratify=labels, random_state=1
    )
    trial = export(fit(x[fitted], y[fitted], EPOCHS))
    print(f"validation: {accuracy(trial, images[validation], labels[validation])}", flush=True)

    weights = export(fit(x, y, EPOCHS))
    print(f"held out: {accuracy(weights, *held_out())}")
    output.parent.mkdir(parents=True, exist_ok=True)
    save(weights, output)
    print(f"{output}: {output.stat().st_size:,} bytes, tensors' sha256 {digest(weights)}")
    print(f"took {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
