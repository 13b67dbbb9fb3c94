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

# Per SM and clock, from data sheets and the programming guide: multiply-adds of wgmma, of mma.sync
# and of float32, bytes of shared memory and of the L2 cache, warp instructions.
WGMMA_MACS, MMA_MACS, FMA = 2048, 1024, 128
PORT_BYTES, SECTOR_BYTES, L2_BYTES = 128, 32, 26
INSTRUCTIONS = 4
LAUNCH_CYCLES = 4000


def cycles(counted: Mapping[str, int], small: _C.Plan, full: _C.Plan, sm_count: int) -> float:
    """Return the cycles of ``full``, from the counters of ``small`` with the same tiles."""
    products = counted["wgmma_macs"] / WGMMA_MACS + counted["mma_macs"] / MMA_MACS
    products += counted["fma"] / FMA
    bulk = counted["wgmma_shared_bytes"] + counted["bulk_shared_bytes"]
    port = counted["shared_wavefronts"] + bulk / PORT_BYTES
    sectors = counted["load_sectors"] + counted["store_sectors"]
    moved = counted["bulk_load_bytes"] + counted["bulk_store_bytes"] + SECTOR_BYTES * sectors
    issue = counted["instructions"] / INSTRUCTIONS
    tile = max(products, port, moved / L2_BYTES, issue) / tiles(small)
    return tile * -(-tiles(full) // sm_count) + LAUNCH_CYCLES * (len(full.as_dict()["launches"]))


def tiles(plan: _C.Plan) -> int:
    """Return the units of work of the first launch."""
    found: int = plan.as_dict()["tiles"]
    return found
