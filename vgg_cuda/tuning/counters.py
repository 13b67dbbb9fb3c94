"""Ranking of kernels by what the emulator counts, in place of time.

The cycles of an SM for one tile are those of its busiest part: tensor cores or CUDA cores, the port
of shared memory, loads and stores of the L2 cache, or the issue of instructions. Large operations
are counted at smaller sizes with equal tiles. An operation takes the cycles of a tile times the
tiles of the busiest SM.
"""

from __future__ import annotations

from collections.abc import Mapping

from .. import _C

MAX_MACS = 1 << 28  # of a counted operation, which takes about a second

SECTOR_BYTES = 32
INSTRUCTIONS = 4  # of warps, per SM and clock


def cycles(counted: Mapping[str, int], small: _C.Plan, full: _C.Plan, arch: _C.Arch) -> float:
    """Return the cycles of ``full`` on ``arch``, from the counters of ``small``.

    Both plans have the same tiles. Rates are those of estimates, ``arch.rates``.
    """
    rates = arch.rates
    products = counted["wgmma_macs"] / rates["wgmma_macs"] + counted["mma_macs"] / rates["mma_macs"]
    products += counted["fma"] / rates["ffma_macs"]
    bulk = counted["wgmma_shared_bytes"] + counted["bulk_shared_bytes"]
    port = counted["shared_wavefronts"] + bulk / rates["port_bytes"]
    sectors = counted["load_sectors"] + counted["store_sectors"]
    moved = counted["bulk_load_bytes"] + counted["bulk_store_bytes"] + SECTOR_BYTES * sectors
    issue = counted["instructions"] / INSTRUCTIONS
    tile = max(products, port, moved / rates["l2_bytes"], issue) / tiles(small)
    launches = len(full.as_dict()["launches"])
    return tile * -(-tiles(full) // arch.sm_count) + rates["launch_cycles"] * (launches - 1)


def tiles(plan: _C.Plan) -> int:
    """Return the units of work of the first launch."""
    found: int = plan.as_dict()["tiles"]
    return found
