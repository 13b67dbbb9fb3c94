"""Ranking of kernels by what the emulator counts, in place of time.

An SM's cycles are the cycles of its busiest part: tensor cores or CUDA cores, the port of shared
memory, loads and stores of the L2 cache, or the issue of instructions. Large operations are counted
at smaller sizes with equal tiles, in proportion to the multiply-adds that their launches issue.
"""

from __future__ import annotations

from collections.abc import Mapping

from .. import _C

MAX_MACS = 1 << 28  # of a counted operation, which takes about a second

SECTOR_BYTES = 32
INSTRUCTIONS = 4  # of warps, per SM and clock


def cycles(counted: Mapping[str, int], small: _C.Plan, full: _C.Plan, arch: _C.Arch) -> float:
    """Return the cycles of ``full`` on the busiest SM of ``arch``, from the counters of ``small``.

    Both plans are of one variant. Rates are ``arch.rates``, as for estimates.
    """
    rates = arch.rates
    products = counted["wgmma_macs"] / rates["wgmma_macs"] + counted["mma_macs"] / rates["mma_macs"]
    products += counted["fma"] / rates["ffma_macs"]
    bulk = counted["wgmma_shared_bytes"] + counted["bulk_shared_bytes"]
    port = counted["shared_wavefronts"] + bulk / rates["port_bytes"]
    sectors = counted["load_sectors"] + counted["store_sectors"]
    moved = counted["bulk_load_bytes"] + counted["bulk_store_bytes"] + SECTOR_BYTES * sectors
    issue = counted["instructions"] / INSTRUCTIONS
    busiest = max(products, port, moved / rates["l2_bytes"], issue)
    of_small, of_full = small.as_dict(), full.as_dict()
    whole = busiest * of_full["issued_macs"] / of_small["issued_macs"]
    waves = -(-of_full["tiles"] // arch.sm_count)
    launches = len(of_full["launches"])
    return float(whole / of_full["tiles"] * waves + rates["launch_cycles"] * (launches - 1))
