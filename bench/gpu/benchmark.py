"""VGG beside PyTorch: whole networks, then every layer; ``bench.json`` is rewritten at each figure.

``python -m gpu.benchmark --out bench.json --seconds 90``, with ``bench`` on the PYTHONPATH. Both
programs have the same weights, inputs and dtype; a result that is further from float64 than
twice PyTorch's own error is marked wrong, and its time means nothing. ``--also tf32`` measures the
whole network in another dtype with the time that is left: in tf32 both have float32 arrays, in
float32 PyTorch may not take tf32. ``--profile conv1_2`` runs one layer a few times, for a profiler.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .machine import nvidia_smi
from .programs import Layer, Ours, Torch, layers, pictures
from .runner import write_json
from .timing import Call, Clock, Repeated, Sample, side_by_side

ROTATED_BYTES = 256 << 20  # several times the L2 of any GPU
MOST_COPIES = 16
FACTOR, LOGITS = 2, 2e-5  # as in tests/kernel_reference.py and tests/tolerance.py
COPY_BYTES = 2 << 30
MATMUL = 8192


class Benchmark:
    """``rows``: what was measured so far."""

    def __init__(self, args: argparse.Namespace) -> None:
        from vgg_cuda.configs import CONFIGS, get_config
        from vgg_cuda.weights import he_weights, load_weights

        self.args = args
        self.end = time.monotonic() + args.seconds
        known = args.network in CONFIGS
        self.weights = (
            he_weights(get_config(args.network), 0) if known else load_weights(args.network)
        )
        self.config = self.weights.config
        self.on_gpu = args.device.startswith("cuda")
        self.compare(args.dtype)
        self.report: dict[str, Any] = {
            "schema": 1, "network": args.network, "device": args.device, "dtype": args.dtype,
            "size": args.size, "versions": self.versions(), "finished": False, "left_out": [],
            "rows": [],
        }  # fmt: skip

    def compare(self, dtype: str) -> None:
        """The programs from here on compute in ``dtype``."""
        self.dtype = dtype
        self.ours = Ours(self.weights, self.args.device, dtype)
        self.torch = Torch(self.weights, self.args.device, dtype)
        self.exact = Torch(self.weights, self.args.device, dtype, double=True)

    def versions(self) -> dict[str, Any]:
        """What was compared."""
        from vgg_cuda import _C

        torch = self.torch.torch
        cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
        return {"vgg_cuda": _C.commit(), "torch": torch.__version__, "cudnn": cudnn}

    def write(self) -> None:
        """Everything so far."""
        write_json(self.args.out, self.report)

    def run(self) -> None:
        """All that there is time for, the most important first."""
        self.write()
        large = [n for n in self.args.batch if n > self.args.layer_batch]
        plan: list[tuple[Callable[..., None], tuple[int, ...]]]
        plan = [(self.network, (n,)) for n in self.args.batch if n not in large]
        plan += [(self.ceilings, ()), (self.all_layers, ())]
        plan += [(self.network, (n,)) for n in large]
        plan += [(self.other, (dtype,)) for dtype in self.args.also]
        for measure, arguments in plan:
            if time.monotonic() > self.end:
                self.report["left_out"].append([measure.__name__, *arguments])
                continue
            try:
                measure(*arguments)
            except Exception as error:  # out of memory, say: the others may do
                text = f"{measure.__name__}{arguments}: {type(error).__name__}: {error}"
                self.report.setdefault("errors", []).append(text)
                print(text, flush=True)
            self.write()
        self.report["nvidia_smi_after"] = nvidia_smi()
        self.report["finished"] = True
        self.write()

    def other(self, dtype: str) -> None:
        """The network in another dtype, where arrays on the device can hold it."""
        if dtype not in self.ours.backend.precisions:
            self.report["left_out"].append(["network", dtype, "there are no arrays of it"])
            return
        self.compare(dtype)
        self.network(self.args.layer_batch)

    def seconds(self) -> float:
        """For one comparison."""
        return float(min(self.args.each, max(0.1, self.end - time.monotonic())))

    def add(self, row: dict[str, Any]) -> None:
        """A figure, on the screen and in the file."""
        row["dtype"] = self.dtype
        self.report["rows"].append(row)
        self.write()
        found = [f"{row['kind']} {row['name']} {row['dtype']}"]
        if "batch" in row:
            found.append(f"N={row['batch']}")
        found += [
            f"{program} {row[program]['median_s'] * 1e6:.1f} us"
            for program in ("vgg_cuda", "torch")
            if program in row
        ]
        if "ratio" in row:
            found.append(f"{row['ratio']:.2f}x PyTorch's speed")
        if row.get("right") is False:
            found.append("WRONG")
        print("  ".join(found), flush=True)

    def compared(self, programs: dict[str, Repeated]) -> dict[str, Any]:
        """The samples of both, and ``ratio``: how many times PyTorch's speed."""
        samples = side_by_side(programs, self.seconds())
        row: dict[str, Any] = {
            name: found.as_dict(graph=programs[name].graph, how=programs[name].why)
            for name, found in samples.items()
        }
        row["ratio"] = samples["torch"].median_s / samples["vgg_cuda"].median_s
        return row

    def errors(self, ours: Any, torch: Any, exact: Any) -> dict[str, Any]:
        """Relative L2 of both from float64, and whether ours is right."""
        y = self.exact.host(exact)
        norm = max(float(np.linalg.norm(y)), 1e-300)
        mine = float(np.linalg.norm(self.ours.host(ours) - y)) / norm
        theirs = float(np.linalg.norm(self.torch.host(torch) - y)) / norm
        return {"error": mine, "torch_error": theirs, "right": mine <= FACTOR * theirs + LOGITS}

    def network(self, batch: int) -> None:
        """Logits of pictures that are on the device."""
        x = self.ours.place(pictures(batch, self.args.size))
        seen = self.torch.see(x)
        mine, how = self.ours.network(x)
        few = min(batch, 4)
        head = self.exact.network(self.exact.see(x[:few]))
        right = self.errors(mine()[:few], self.torch.network(seen)[:few], head)
        programs = {
            "vgg_cuda": Repeated(mine, 1, self.ours.clock, how == "captured", how),
            "torch": self.torch.clock.repeated([lambda: self.torch.network(seen)]),
        }
        row = self.compared(programs)
        row["images_per_s"] = {name: batch / row[name]["median_s"] for name in programs}
        self.add({"kind": "network", "name": self.args.network, "batch": batch} | row | right)

    def activations(self, batch: int) -> Iterator[tuple[Layer, Any]]:
        """Every layer with what it reads in a forward pass."""
        x = self.ours.place(pictures(batch, self.args.size))
        for layer in layers(self.config):
            x = self.ours.between(x, layer, self.config.pool_grid)
            yield layer, x
            x = self.ours.layer(layer, x)

    def all_layers(self) -> None:
        """One after the other, over copies of their input that do not fit the L2."""
        batch = self.args.layer_batch
        for layer, x in self.activations(batch):
            if time.monotonic() > self.end:
                self.report["left_out"].append(["layer", layer.name])
                continue
            shape = layer.out_shape(x.shape)
            size = x.nbytes + int(np.prod(shape)) * x.itemsize
            copies = max(1, min(MOST_COPIES, ROTATED_BYTES // size)) if self.on_gpu else 1
            xs = [x, *(x.copy() for _ in range(copies - 1))]
            outs = [self.ours.empty(shape) for _ in xs]
            seen = [self.torch.see(one) for one in xs]
            for one, out in zip(xs, outs, strict=True):
                self.ours.layer(layer, one, out)
            warm = [self.torch.layer(layer, one) for one in seen]
            few = min(batch, 2)
            exact = self.exact.layer(layer, self.exact.see(x[:few]))
            right = self.errors(outs[0][:few], warm[0][:few], exact)
            del warm
            ours = [
                lambda one=one, out=out, layer=layer: self.ours.layer(layer, one, out)
                for one, out in zip(xs, outs, strict=True)
            ]
            theirs = [lambda one=one, layer=layer: self.torch.layer(layer, one) for one in seen]
            row = self.compared(
                {
                    "vgg_cuda": self.ours.clock.repeated(ours),
                    "torch": self.torch.clock.repeated(theirs),
                }
            )
            macs = layer.macs(x.shape)
            for name in ("vgg_cuda", "torch"):
                row[name]["tflops"] = 2 * macs / row[name]["median_s"] / 1e12
            known = {"kind": "layer", "name": layer.name, "batch": batch, "shape": list(x.shape)}
            known |= {"macs": macs, "copies": copies, "pool": layer.pool}
            known["plan"] = self.plan(layer, x)
            self.add(known | row | right)

    def plan(self, layer: Layer, x: Any) -> dict[str, Any] | None:
        """What is launched."""
        if not self.on_gpu:
            return None
        from vgg_cuda.backends import recording

        with recording() as stats:
            self.ours.layer(layer, x)
        return {"kernel": stats[-1]["kernel"], **stats[-1]["plan"]["tiling"]} if stats else None

    def ceilings(self) -> None:
        """What the device does at best: a copy, and a large matrix product of random numbers."""
        torch, device = self.torch.torch, self.torch.device
        size, side = (COPY_BYTES, MATMUL) if self.on_gpu else (1 << 20, 64)
        found = self.alone(self.copy(size))
        row = {"bytes_per_s": 2 * size / found.median_s} | found.as_dict()
        self.add({"kind": "ceiling", "name": "copy", "torch": row})
        x, w = (torch.randn(side, side, device=device).to(self.torch.dtype) for _ in range(2))
        found = self.alone(lambda: x @ w)
        row = {"tflops": 2 * side**3 / found.median_s / 1e12} | found.as_dict()
        self.add({"kind": "ceiling", "name": f"matmul {side}", "torch": row})

    def copy(self, size: int) -> Call:
        """Bytes from one array to another."""
        torch, device = self.torch.torch, self.torch.device
        a = torch.empty(size, dtype=torch.uint8, device=device).random_()
        b = torch.empty_like(a)
        return lambda: b.copy_(a)

    def alone(self, call: Any) -> Sample:
        """One program."""
        clock: Clock = self.torch.clock
        return side_by_side({"": Repeated(call, 1, clock)}, self.seconds())[""]

    def profile(self, name: str) -> None:
        """One layer, three times, the last of them for the profiler."""
        for layer, x in self.activations(self.args.layer_batch):
            if layer.name == name:
                for _ in range(2):
                    self.ours.layer(layer, x)
                self.ours.backend.synchronize()
                if self.on_gpu:
                    self.torch.torch.cuda.cudart().cudaProfilerStart()
                self.ours.layer(layer, x)
                self.ours.backend.synchronize()
                return
        raise SystemExit(f"no layer {name}")


def main() -> None:
    """Parses the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    parser.add_argument("--seconds", type=float, default=90, help="nothing is begun after that")
    parser.add_argument("--each", type=float, default=1.0, help="seconds of one comparison")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--also", nargs="+", default=[], help="dtypes of the whole network, too")
    parser.add_argument("--network", default="vgg16")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--layer-batch", type=int, default=64)
    parser.add_argument("--profile", metavar="LAYER", help="run one layer; no times")
    args = parser.parse_args()
    benchmark = Benchmark(args)
    if args.profile:
        benchmark.profile(args.profile)
    else:
        benchmark.run()


if __name__ == "__main__":
    main()
