"""VGG-16 at 224x224 on the CPU, beside PyTorch and onnxruntime: seconds per image, memory, load.

Every program runs in a process of its own with the same seeded weights and input; the programs
take turns, so that a noisy machine troubles them alike; medians of all rounds are compared. Each
program's logits are checked against vgg_cuda's in the same run, and one that is wrong prints no
time. Run ``pip install ".[bench]"`` first, then ``python bench/cpu.py``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

PROGRAMS = ("vgg_cuda", "torch", "onnxruntime")
SEED = 0
SIZE = 224
TOLERANCE = 2e-5  # relative L2 error of the logits between programs
RESULTS = Path(__file__).parent / "results"

Run = Callable[[Any], Any]


def weights_path(folder: Path) -> Path:
    """The seeded VGG-16 as a native safetensors file, written once."""
    from vgg_cuda.configs import get_config
    from vgg_cuda.weights import he_weights, save

    path = folder / "vgg16.safetensors"
    if not path.exists():
        save(he_weights(get_config("vgg16"), SEED), path)
    return path


def prepare_vgg_cuda(folder: Path) -> Run:
    """This package's CPU backend."""
    from vgg_cuda import VGG

    return VGG.load(weights_path(folder), device="cpu")


def prepare_torch(folder: Path) -> Run:
    """PyTorch, channels_last, all cores."""
    import torch

    from vgg_cuda.configs import Conv
    from vgg_cuda.weights import load_weights

    weights = load_weights(weights_path(folder))
    modules: list[Any] = []

    def fill(module: Any, name: str) -> Any:
        w = torch.from_numpy(weights.tensors[f"{name}.weight"])
        module.weight.data = w.permute(0, 3, 1, 2) if w.ndim == 4 else w
        module.bias.data = torch.from_numpy(weights.tensors[f"{name}.bias"])
        return module

    for layer in weights.config.features:
        if isinstance(layer, Conv):
            conv = torch.nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
            modules += [fill(conv, layer.name), torch.nn.ReLU(inplace=True)]
        else:
            modules.append(torch.nn.MaxPool2d(2))
    features = torch.nn.Sequential(*modules).to(memory_format=torch.channels_last)
    head: list[Any] = []
    for dense in weights.config.dense:
        head.append(fill(torch.nn.Linear(dense.in_features, dense.out_features), dense.name))
        head += [torch.nn.ReLU(inplace=True)] if dense.relu else []
    classifier = torch.nn.Sequential(*head)

    def run(x: Any) -> Any:
        with torch.inference_mode():
            y = features(torch.from_numpy(x).permute(0, 3, 1, 2))
            return classifier(y.permute(0, 2, 3, 1).flatten(1)).numpy()

    return run


def prepare_onnxruntime(folder: Path) -> Run:
    """onnxruntime's CPU provider on an NCHW graph, as exporters write it; all cores."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from vgg_cuda.configs import Conv
    from vgg_cuda.weights import load_weights

    path = folder / "vgg16.onnx"
    if not path.exists():
        weights = load_weights(weights_path(folder))
        nodes, tensors, y = [], [], "x"
        for layer in weights.config.features:
            if isinstance(layer, Conv):
                w = weights.tensors[f"{layer.name}.weight"].transpose(0, 3, 1, 2)
                b = weights.tensors[f"{layer.name}.bias"]
                tensors += [
                    numpy_helper.from_array(np.ascontiguousarray(w), f"{layer.name}.w"),
                    numpy_helper.from_array(b, f"{layer.name}.b"),
                ]
                inputs = [y, f"{layer.name}.w", f"{layer.name}.b"]
                nodes.append(helper.make_node("Conv", inputs, [layer.name], pads=[1, 1, 1, 1]))
                nodes.append(helper.make_node("Relu", [layer.name], [layer.relu_name]))
                y = layer.relu_name
            else:
                pool = helper.make_node(
                    "MaxPool", [y], [layer.name], kernel_shape=[2, 2], strides=[2, 2]
                )
                nodes.append(pool)
                y = layer.name
        nodes.append(helper.make_node("Flatten", [y], ["flat"]))
        y = "flat"
        for dense in weights.config.dense:
            w = weights.tensors[f"{dense.name}.weight"]
            if dense.name == "fc6":  # ONNX flattens CHW
                w = w.reshape(-1, 49, 512).transpose(0, 2, 1).reshape(w.shape)
            tensors += [
                numpy_helper.from_array(np.ascontiguousarray(w), f"{dense.name}.w"),
                numpy_helper.from_array(weights.tensors[f"{dense.name}.bias"], f"{dense.name}.b"),
            ]
            inputs = [y, f"{dense.name}.w", f"{dense.name}.b"]
            nodes.append(helper.make_node("Gemm", inputs, [dense.name], transB=1))
            y = dense.name
            if dense.relu:
                nodes.append(helper.make_node("Relu", [y], [dense.relu_name]))
                y = dense.relu_name
        graph = helper.make_graph(
            nodes,
            "vgg16",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["n", 1000])],
            tensors,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(x: Any) -> Any:
        return session.run(None, {"x": x.transpose(0, 3, 1, 2)})[0]

    return run


def peak_memory() -> int:
    """Most bytes this program had resident; getrusage would count those of the parent, too."""
    line = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line[1]) * 1024 if line else 0


def worker(program: str, batch: int, seconds: float, folder: Path) -> None:
    """Times one program on one batch size and prints its result as JSON."""
    start = time.perf_counter()
    run = globals()[f"prepare_{program}"](folder)
    load_s = time.perf_counter() - start
    load_peak = peak_memory()
    x = np.random.default_rng(SEED + 1).standard_normal((batch, SIZE, SIZE, 3), dtype=np.float32)
    logits = run(x)
    run(x)
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < stop:
        start = time.perf_counter()
        run(x)
        times.append((time.perf_counter() - start) / batch)
    peak = peak_memory()
    np.save(folder / f"{program}-{batch}.npy", logits)
    result = {"times": times, "load_s": load_s, "load_peak_bytes": load_peak, "peak_bytes": peak}
    print(json.dumps(result))


def measure(batches: list[int], rounds: int, seconds: float, programs: list[str]) -> dict[str, Any]:
    """All programs on all batch sizes, taking turns for ``rounds`` rounds."""
    samples: dict[tuple[str, int], list[dict[str, Any]]] = {}
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights_path(folder)
        if "onnxruntime" in programs:
            prepare_onnxruntime(folder)  # writes the model, so that its size is in no one's peak
        for batch in batches:
            for round_ in range(rounds):
                for program in (
                    programs[round_ % len(programs) :] + programs[: round_ % len(programs)]
                ):
                    command = [sys.executable, __file__, "--worker", program, "--folder", name]
                    command += ["--batch", str(batch), "--seconds", str(seconds)]
                    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                    samples.setdefault((program, batch), []).append(json.loads(out.stdout))
            expected = np.load(folder / f"{programs[0]}-{batch}.npy").astype(np.float64)
            ours = statistics.median(_times(samples[programs[0], batch]))
            for program in programs:
                runs = samples[program, batch]
                got = np.load(folder / f"{program}-{batch}.npy").astype(np.float64)
                error = float(np.linalg.norm(got - expected) / np.linalg.norm(expected))
                if error > TOLERANCE:
                    raise SystemExit(
                        f"{program}, batch {batch}: relative L2 error {error:.1e} exceeds "
                        f"{TOLERANCE:.0e}: its time means nothing"
                    )
                times = sorted(_times(runs))
                median = statistics.median(times)
                row = {
                    "name": "vgg16", "program": program, "batch": batch, "size": SIZE,
                    "dtype": "float32", "median_s_per_image": median,
                    "iqr_s_per_image": times[len(times) * 3 // 4] - times[len(times) // 4],
                    "samples": len(times), "ratio_to_vgg_cuda": median / ours,
                    "relative_error": error, "load_s": min(r["load_s"] for r in runs),
                    "load_peak_bytes": max(r["load_peak_bytes"] for r in runs),
                    "peak_bytes": max(r["peak_bytes"] for r in runs),
                }  # fmt: skip
                results.append(row)
                print(
                    f"batch {batch:3d}  {program:12s} {median:.4f} s/image  "
                    f"IQR {row['iqr_s_per_image']:.4f}  {row['ratio_to_vgg_cuda']:.3f}x vgg_cuda  "
                    f"peak {row['peak_bytes'] / 1e9:.2f} GB  load {row['load_s']:.2f} s",
                    flush=True,
                )
    return {"results": results}


def _times(runs: list[dict[str, Any]]) -> list[float]:
    return [t for run in runs for t in run["times"]]


def environment(programs: list[str]) -> dict[str, Any]:
    """Where and with what the figures were measured."""
    from vgg_cuda import _C

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    packages = {"vgg_cuda": "vgg-cuda", "numpy": "numpy"} | {p: p for p in programs[1:]}
    return {
        "schema": 1,
        "commit": _C.commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": f"{cpu}, {len(os.sched_getaffinity(0))} cores",
        "versions": {"python": platform.python_version()}
        | {name: version(dist) for name, dist in packages.items()},
        "seed": SEED,
    }


def main() -> None:
    """Parses the arguments; writes the JSON file whole or not at all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="a program's time per round")
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=PROGRAMS)
    parser.add_argument("--output", type=Path, help="JSON file (default: bench/results/<date>)")
    parser.add_argument("--worker", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.batch[0], args.seconds, args.folder)
        return
    programs = ["vgg_cuda", *(p for p in args.programs if p != "vgg_cuda")]
    report = environment(programs) | measure(args.batch, args.rounds, args.seconds, programs)
    output = args.output or RESULTS / f"{report['date'][:10]}-cpu.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
