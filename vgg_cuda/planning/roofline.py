"""Peak rates of GPUs, which bound the times of plans and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ceiling:
    """FLOP/s of matrix products by dtype (a multiply-add is 2), and memory bandwidth in bytes/s.

    ``source`` states the origin of the numbers; programs do not reach the peaks of data sheets.
    """

    gpu: str
    flops: dict[str, float]
    bandwidth: float
    source: str

    def floor(self, macs: int, nbytes: int, dtype: str) -> float:
        """Return the minimum time in seconds of ``macs`` multiply-adds and ``nbytes`` moved."""
        return max(2 * macs / self.flops[dtype], nbytes / self.bandwidth)


def _ceiling(
    gpu: str, half: float, tf32: float, single: float, tb_per_s: float, source: str
) -> Ceiling:
    flops = {"float16": half, "bfloat16": half, "tf32": tf32, "float32": single}
    return Ceiling(gpu, {k: v * 1e12 for k, v in flops.items()}, tb_per_s * 1e12, source)


# Dense products in TFLOP/s: 16-bit, tf32, float32 (without tensor cores); memory in TB/s.
_SHEET = "the vendor's data sheet"
_A100 = _ceiling("A100 80GB SXM", 312, 156, 19.5, 2.04, _SHEET)
_H200 = _ceiling(
    "H200 SXM", 790, 395, 67, 4.3,
    "reported for 8192^3 products and copies of random data on an H200; float32 and the ratio of "
    "tf32 to float16 from the vendor's data sheet",
)  # fmt: skip
CEILINGS: dict[str, Ceiling] = {
    "sm_80": _A100,
    "sm_86": _ceiling("A40", 149.7, 74.8, 37.4, 0.696, _SHEET),
    "sm_89": _ceiling("L40S", 362, 183, 91.6, 0.864, _SHEET),
    "sm_90": _H200,
    "sm_90a": _H200,
    "sm_100": _ceiling("B200", 2250, 1125, 75, 8.0, _SHEET),
}
