"""A layer a few times and nothing else, for a profiler: ``python -m vgg_cuda.bench.once``.

The profiler is told to start before the last call, as ``ncu --profile-from-start off`` waits for.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from ..weights import save
from .options import Options, resolve
from .peers import OURS, start


def main() -> None:
    """Parses the arguments, as those of ``vgg-cuda bench kernel``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", default="vgg16")
    parser.add_argument("--layer", required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int)
    parser.add_argument("--dtype")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    asked = resolve(
        Options(
            "kernel", args.network, (args.batch,), args.size, args.dtype, args.device,
            graph=False, peers=(), layers=(args.layer,),
        )
    )  # fmt: skip
    assert asked.weights is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save(asked.weights, path)
        program = start(OURS, replace(asked.job, weights=str(path))).prepare(asked.works[0])
    program.result()
    if asked.job.on_gpu:
        import cupy

        cupy.cuda.profiler.start()
    program.result()


if __name__ == "__main__":
    main()
