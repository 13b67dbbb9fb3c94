"""The program of ``make demo``: classify scanned digits, then time VGG-16 on two photographs.

It writes the held-out fifth of scikit-learn's handwritten digits as PNG files and classifies them
with the command line and the network that ships with the package. Needs scikit-learn.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

try:
    from sklearn.datasets import load_sample_image
except ImportError as error:
    raise SystemExit(
        f"this example needs scikit-learn: pip install '.[demo]' in a clone of vgg_cuda ({error})"
    ) from None

from vgg_cuda import VGG

sys.path.insert(0, str(Path(__file__).parent / "digits"))
from data import held_out

FOLDER = Path("demo")
RUNS = 5


def classify_digits() -> None:
    """Classify held-out digits with the command line; print accuracy and confusion matrix."""
    scans, labels = held_out()
    shutil.rmtree(FOLDER, ignore_errors=True)
    for i, (scan, label) in enumerate(zip(scans, labels, strict=True)):
        path = FOLDER / "digits" / str(label) / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scan).save(path)
    print(f"wrote {len(scans)} handwritten digits, not used in training, to {FOLDER}/digits")

    output = FOLDER / "digits.json"
    command = [str(Path(sys.executable).parent / "vgg-cuda"), "classify", str(FOLDER / "digits")]
    command += ["--weights", "digits", "--top-k", "1", "--output", str(output)]
    print("$", " ".join(["vgg-cuda", *command[1:]]), flush=True)
    start = time.perf_counter()
    if code := subprocess.run(command, check=False).returncode:  # the command has printed why
        raise SystemExit(code)
    seconds = time.perf_counter() - start

    confusion = np.zeros((10, 10), int)
    for record in json.loads(output.read_text(encoding="utf-8")):
        truth = int(Path(record["path"]).parent.name)
        confusion[truth, record["predictions"][0]["index"]] += 1
    right, total = int(np.trace(confusion)), int(confusion.sum())
    print(f"accuracy {100 * right / total:.1f} % ({right} of {total})")
    print(f"{total / seconds:.0f} images per second, including the start of the command")
    print("\nrows: true digit; columns: predicted digit")
    print("    " + "".join(f"{digit:4d}" for digit in range(10)))
    for digit, row in enumerate(confusion):
        print(f"{digit:4d}" + "".join(f"{n:4d}" if n else "   ." for n in row))


def time_vgg16() -> None:
    """Time a full-size VGG-16 on two photographs; its weights are random."""
    model = VGG.from_config("vgg16", seed=0)
    names = ("china.jpg", "flower.jpg")
    photographs = [load_sample_image(name) for name in names]
    print(f"\nVGG-16 at 224x224, {model.dtype} on {model.device}; random weights, so only the")
    print("times are meaningful, not the classes")
    model.classify(photographs)  # warm-up
    for name, photograph in zip(names, photographs, strict=True):
        times = []
        for _ in range(RUNS):
            start = time.perf_counter()
            ((best, *_),) = model.classify(photograph)
            times.append(time.perf_counter() - start)
        height, width, _ = photograph.shape
        print(
            f"{name} ({width}x{height}): {1e3 * sorted(times)[RUNS // 2]:.0f} ms per image, "
            f"including resizing (median of {RUNS}); most probable: class {best.label}"
        )


if __name__ == "__main__":
    classify_digits()
    time_vgg16()
