"""Run one layer twice, for a profiler: ``python -m gpu.one_layer --layer conv3_2``.

The CUDA profiler is started before the second call, for ``ncu --profile-from-start off``.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from vgg_cuda.bench.options import Options, resolve
from vgg_cuda.bench.peers import OURS, start
from vgg_cuda.weights import save


def main() -> None:
    """Parse options of ``vgg-cuda bench kernel``, and run the layer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", default="vgg16")
    parser.add_argument("--layer", required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int)
    parser.add_argument("--dtype")
    parser.add_argument("--device", default="auto")
    options = vars(parser.parse_args())
    layers, batches = (options.pop("layer"),), (options.pop("batch"),)
    settings = resolve(
        Options("kernel", layers=layers, batches=batches, graph=False, peers=(), **options)
    )
    assert settings.weights is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save(settings.weights, path)
        program = start(OURS, replace(settings.job, weights=str(path))).prepare(settings.works[0])
    program.result()
    if settings.job.on_gpu:
        import cupy

        cupy.cuda.profiler.start()
    program.result()


if __name__ == "__main__":
    main()
