"""Gates on the machine code of the compiled kernels, for every architecture; no GPU is needed.

A gate that finds nothing to look at fails.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import sass

from vgg_cuda import _C

ARCHITECTURES = [arch for arch in _C.architectures() if arch.startswith("sm_")]
HOPPER = "sm_90a"
PORTABLE = [arch for arch in ARCHITECTURES if arch != HOPPER]
REASON = (
    "the build has no CUDA kernels"
    if not _C.built_with_cuda()
    else f"{sass.missing_package()} is not installed"
    if sass.missing_package()
    else None
)
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

# Limits by family: kernels' names, limit. A kernel is of the first family whose names it fits.
Limits = dict[str, tuple[str, int]]

# Registers of a thread. Three, four, eight blocks of 128 threads fit an SM with 168, 128, 64.
REGISTERS: Limits = {
    "gemm_tensor_core_m128n128": (r"(conv3x3|linear)_(f16|bf16|tf32)_m128n128(_pool)?", 224),
    "gemm_tensor_core": (r"(conv3x3|linear)_(f16|bf16|tf32)_.*", 128),
    "gemm_f32_m128n128": (r"(conv3x3|linear)_f32_m128n128(_pool)?", 255),
    "gemm_f32": (r"(conv3x3|linear)_f32_.*", 168),
    "first_tensor_core": (r"conv3x3_first_(f16|bf16|tf32)(_pool)?", 128),
    "first_f32": (r"conv3x3_first_f32(_pool)?", 168),
    "reduce": (r"reduce_.*", 64),
    "softmax_of_a_warp": (r"softmax_.*_t32", 96),
    "simple": (r"(maxpool2x2|avgpool|adaptive_maxpool|softmax|relu|affine|convert|cast)_.*", 64),
}
REGISTERS_PER_SM = 65536

# Issue slots in a step of the main loop for each HMMA; gathered rows are left out. Kernels of tf32
# also round x: two slots for each register of A, used for four products in m64n64 and m128n64.
SLOTS_PER_HMMA: Limits = {
    "small_batch": (r"linear_(f16|bf16)_m16n128", 6),  # bound by reading w, not by issue
    "small_batch_tf32": (r"linear_tf32_m16n128", 8),
    "gemm_16bit": (r"(conv3x3|linear)_(f16|bf16)_m\d+n\d+(_pool)?", 4),
    "gemm_tf32_m128n128": (r"(conv3x3|linear)_tf32_m128n128(_pool)?", 4),
    "gemm_tf32": (r"(conv3x3|linear)_tf32_m\d+n\d+(_pool)?", 6),
}

TENSOR_CORES = {
    "HMMA.16816.F32": r"(conv3x3|linear)_(first_)?f16(_.*)?",
    "HMMA.16816.F32.BF16": r"(conv3x3|linear)_(first_)?bf16(_.*)?",
    "HMMA.1688.F32.TF32": r"(conv3x3|linear)_(first_)?tf32(_.*)?",
}
FFMA = r"(conv3x3|linear)_(first_)?f32(_.*)?"

# Kernels for sm_90a alone, of which no PTX ships; all others are for the other architectures.
HALO = r"conv3x3_(f16|bf16)_halo_m\d+n\d+(_c2)?(_pool|_split)?"
SWAP_AB = r"conv3x3_(f16|bf16)_swap_ab_rows[12](_c2)?(_pool)?"
DENSE = r"linear_(f16|bf16)_dense_m\d+n128"
FUSED_CONV1_BLOCK = r"fused_conv1_block_(f16|bf16)"
HOPPER_KERNELS = f"{HALO}|{SWAP_AB}|{DENSE}|{FUSED_CONV1_BLOCK}"
# Registers of a thread: at launch, then in the producers' warpgroup and in each consumer's.
HALO_REGISTERS, PRODUCER_REGISTERS, CONSUMER_REGISTERS, CONSUMERS = 168, 40, 232, 2
# Issue slots in a step of the main loop for each HGMMA, of which a tap has 4 for each M tile.
SLOTS_PER_HGMMA: Limits = {
    "halo_one_m_tile": (HALO.replace(r"m\d+", "m128"), 13),
    "halo": (HALO, 8),
    "swap_ab": (SWAP_AB, 12),
}
# A step has four: of 16 cycles for few images, which memory gives a step every 800; of 128 for 256.
SLOTS_PER_DENSE_HGMMA = 15
# Registers of a thread: the most for three warpgroups. A tap of the second convolution has 8 HGMMA
# of 56 cycles each, during which a scheduler also issues for the first: 36 times 8 HMMA per tile.
FUSED_CONV1_BLOCK_REGISTERS, SLOTS_PER_FUSED_CONV1_BLOCK_HGMMA, FUSED_CONV1_BLOCK_SLOTS = (
    168,
    5,
    1000,
)
# Registers of a thread: two blocks of nine warps fit an SM with 112, one block with 224.
DENSE_REGISTERS: Limits = {
    "dense_m256": (r"linear_(f16|bf16)_dense_m256n128", 224),
    "dense": (DENSE, 112),
}


@pytest.fixture(scope="session")
def all_kernels() -> list[sass.Kernel]:
    return sass.disassemble(Path(_C.__file__))


@pytest.fixture(params=PORTABLE)
def kernels(request: pytest.FixtureRequest, all_kernels: list[sass.Kernel]) -> list[sass.Kernel]:
    """Kernels for one architecture."""
    return [kernel for kernel in all_kernels if kernel.arch == request.param]


@pytest.fixture
def halo_kernels(all_kernels: list[sass.Kernel]) -> list[sass.Kernel]:
    return matching(HALO, [kernel for kernel in all_kernels if kernel.arch == HOPPER])


@pytest.fixture
def swap_ab_kernels(all_kernels: list[sass.Kernel]) -> list[sass.Kernel]:
    return matching(SWAP_AB, [kernel for kernel in all_kernels if kernel.arch == HOPPER])


@pytest.fixture
def block_kernels(all_kernels: list[sass.Kernel]) -> list[sass.Kernel]:
    return matching(FUSED_CONV1_BLOCK, [kernel for kernel in all_kernels if kernel.arch == HOPPER])


@pytest.fixture
def dense_kernels(all_kernels: list[sass.Kernel]) -> list[sass.Kernel]:
    return matching(DENSE, [kernel for kernel in all_kernels if kernel.arch == HOPPER])


def names_for(arch: str) -> list[str]:
    on_hopper = {n for n in _C.kernels() if re.fullmatch(HOPPER_KERNELS, n)}
    return sorted(n for n in _C.kernels() if (n in on_hopper) == (arch == HOPPER))


@pytest.fixture(scope="session")
def ptx() -> list[str]:
    return sass.embedded_ptx(Path(_C.__file__))


def matching(names: str, kernels: list[sass.Kernel]) -> list[sass.Kernel]:
    """Return the kernels with such a name; none is an error."""
    found = [kernel for kernel in kernels if re.fullmatch(names, kernel.name)]
    assert found, f"no kernel is named {names}"
    return found


def family_of(kernel: sass.Kernel, limits: Limits) -> str | None:
    return next((f for f, (names, _) in limits.items() if re.fullmatch(names, kernel.name)), None)


def members(family: str, limits: Limits, kernels: list[sass.Kernel]) -> list[sass.Kernel]:
    """Return the kernels of the family; none is an error."""
    found = [kernel for kernel in kernels if family_of(kernel, limits) == family]
    assert found, f"no kernel of {family} is named {limits[family][0]}"
    return found


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_kernel_is_there(arch: str, all_kernels: list[sass.Kernel]) -> None:
    names = [kernel.name for kernel in all_kernels if kernel.arch == arch]
    assert names
    assert sorted(names) == names_for(arch)


def test_every_kernel_is_for_some_architecture() -> None:
    assert HOPPER in ARCHITECTURES
    assert PORTABLE
    assert sorted(names_for(HOPPER) + names_for(PORTABLE[0])) == sorted(_C.kernels())


def test_every_kernel_is_there_as_ptx(ptx: list[str]) -> None:
    names = [name for text in ptx for name in sass.ENTRY.findall(text)]
    assert names
    assert sorted(names) == names_for(PORTABLE[0])


def test_nothing_is_spilled_to_local_memory(all_kernels: list[sass.Kernel]) -> None:
    assert all_kernels
    spilled = {
        (
            kernel.arch,
            kernel.name,
        ): f"stack {kernel.stack_bytes}, local {kernel.local_bytes} bytes, "
        f"{kernel.opcodes['LDL']} LDL, {kernel.opcodes['STL']} STL"
        for kernel in all_kernels
        if kernel.stack_bytes
        or kernel.local_bytes
        or kernel.opcodes["LDL"]
        or kernel.opcodes["STL"]
    }
    assert not spilled


def test_kernels_touch_global_memory(kernels: list[sass.Kernel]) -> None:
    """A parser that sees no instructions would find no spills either."""
    assert kernels
    blind = [kernel.name for kernel in kernels if not kernel.opcodes["STG"]]
    assert not blind


def test_every_kernel_has_a_register_cap(kernels: list[sass.Kernel]) -> None:
    assert kernels
    assert not [kernel.name for kernel in kernels if family_of(kernel, REGISTERS) is None]


@pytest.mark.parametrize("family", REGISTERS)
def test_registers_stay_within_their_cap(family: str, kernels: list[sass.Kernel]) -> None:
    registers = {k.name: k.registers for k in members(family, REGISTERS, kernels)}
    assert not {name: count for name, count in registers.items() if count > REGISTERS[family][1]}


def test_a_block_fits_the_register_file(kernels: list[sass.Kernel], ptx: list[str]) -> None:
    threads = {name: size for text in ptx for name, size in sass.block_sizes(text).items()}
    assert kernels
    too_large = {
        kernel.name: (kernel.registers, threads[kernel.name])
        for kernel in kernels
        if kernel.registers * threads[kernel.name] > REGISTERS_PER_SM
    }
    assert not too_large


@pytest.mark.parametrize("opcode", TENSOR_CORES)
def test_all_but_float32_runs_on_tensor_cores(opcode: str, kernels: list[sass.Kernel]) -> None:
    """All HMMA of a kernel, in main loops as well, have the opcode of its dtype."""
    wrong = {}
    for kernel in matching(TENSOR_CORES[opcode], kernels):
        found = {i.split()[0] for i in kernel.instructions if i.startswith("HMMA.")}
        loop = kernel.main_loop("HMMA")
        if found != {opcode} or (loop is None and "_first_" not in kernel.name):
            wrong[kernel.name] = found
    assert not wrong


def test_float32_is_true_ffma(kernels: list[sass.Kernel]) -> None:
    members = matching(FFMA, kernels)
    assert not [k.name for k in members if not k.opcodes["FFMA"]]
    assert not [k.name for k in members if k.opcodes["HMMA"]]


@pytest.mark.parametrize("family", SLOTS_PER_HMMA)
def test_main_loops_issue_little_beside_mma(family: str, kernels: list[sass.Kernel]) -> None:
    wrong = {}
    for kernel in members(family, SLOTS_PER_HMMA, kernels):
        loop = kernel.main_loop("HMMA")
        if loop is None:
            wrong[kernel.name] = "no loop with HMMA"
            continue
        # ptxas pads HMMA with NOPs on sm_120; they are none of the kernel's.
        slots, count = len(loop.instructions) - loop.opcodes["NOP"], loop.opcodes["HMMA"]
        if slots > SLOTS_PER_HMMA[family][1] * count:
            wrong[kernel.name] = f"{slots} slots for {count} HMMA: {dict(loop.opcodes)}"
    assert not wrong


def test_main_loops_copy_asynchronously(kernels: list[sass.Kernel]) -> None:
    loops = {
        kernel.name: kernel.main_loop("HMMA")
        for family in SLOTS_PER_HMMA
        for kernel in members(family, SLOTS_PER_HMMA, kernels)
    }
    assert not [
        name
        for name, loop in loops.items()
        if not (loop and loop.opcodes["LDGSTS"] and loop.opcodes["LDSM"])
    ]


def test_main_loop_is_the_innermost_with_the_opcode() -> None:
    _, loops = sass.parse_code("""
.L_x_0:
        /*0000*/                   HMMA.16816.F32 R12, R20, R28, R12 ;
.L_x_1:
        /*0010*/              @!P1 HMMA.16816.F32 R8, R20.reuse, R30, R8 ;
.L_x_2:
        /*0020*/                   IADD3 R24, R24, -0x1, RZ ;
        /*0030*/               @P0 BRA `(.L_x_2) ;
        /*0040*/              @!P1 BRA `(.L_x_1) ;
        /*0050*/                   BRA `(.L_x_0) ;
.L_x_3:
        /*0060*/                   BRA `(.L_x_3) ;
""")
    kernel = sass.Kernel("name", "sm_80", 32, 0, 0, (), loops)
    loop = kernel.main_loop("HMMA")
    assert loop
    assert dict(loop.opcodes) == {"HMMA": 1, "IADD3": 1, "BRA": 2}
    assert kernel.main_loop("LDGSTS") is None


def test_halo_kernels_copy_by_tensor_maps(halo_kernels: list[sass.Kernel]) -> None:
    """Pixels, filters and results; only the bias is loaded otherwise. Sums of a
    split, which are larger than what shared memory has left, are stored from registers.
    """
    for kernel in halo_kernels:
        copies = {i.split()[0] for i in kernel.instructions if i.startswith(("UTMALDG", "UTMASTG"))}
        loads = {"UTMALDG.4D", "UTMALDG.2D" + ".MULTICAST" * ("_c2" in kernel.name)}
        assert not {"LDGSTS", "LDS", "HMMA"} & kernel.opcodes.keys(), kernel.name
        if kernel.name.endswith("_split"):
            assert copies == loads, kernel.name
            stores = {i.split()[0] for i in kernel.instructions if i.startswith("STG")}
            assert stores == {"STG.E.64"}, kernel.name
            assert not {"LDG", "STSM"} & kernel.opcodes.keys(), kernel.name
        else:
            assert copies == {*loads, "UTMASTG.4D"}, kernel.name
            assert {"LDG", "STSM"} <= kernel.opcodes.keys(), kernel.name
            assert "STG" not in kernel.opcodes, kernel.name


def test_convolutions_divide_the_registers(
    halo_kernels: list[sass.Kernel], swap_ab_kernels: list[sass.Kernel]
) -> None:
    warpgroups = CONSUMERS + 1
    assert HALO_REGISTERS * warpgroups * 128 <= REGISTERS_PER_SM
    divided = PRODUCER_REGISTERS + CONSUMERS * CONSUMER_REGISTERS
    assert divided <= HALO_REGISTERS * warpgroups
    for kernel in halo_kernels + swap_ab_kernels:
        changes = [i.split() for i in kernel.instructions if i.startswith("USETMAXREG.")]
        assert {(opcode.split(".")[1], int(last, 16)) for opcode, *_, last in changes} == {
            ("DEALLOC", PRODUCER_REGISTERS),
            ("TRY_ALLOC", CONSUMER_REGISTERS),
        }, kernel.name
        assert kernel.registers == HALO_REGISTERS, kernel.name


def test_halo_kernels_multiply_in_warpgroups(halo_kernels: list[sass.Kernel]) -> None:
    """Every HGMMA is in the main loop, once for each tap of the column: ptxas, if it cannot see
    what products may overlap, waits for each (its warnings C7508 and so on).
    """
    for kernel in halo_kernels:
        m, n = map(int, re.findall(r"_m(\d+)n(\d+)", kernel.name)[0])
        opcode = f"HGMMA.64x{n}x16.F32" + ".BF16" * ("_bf16_" in kernel.name)
        assert {i.split()[0] for i in kernel.instructions if i.startswith("HGMMA")} == {opcode}
        loop = kernel.main_loop("HGMMA")
        assert loop, kernel.name
        assert loop.opcodes["HGMMA"] == kernel.opcodes["HGMMA"] == 3 * 4 * m // (64 * CONSUMERS)
        assert loop.opcodes["WARPGROUP"] == 3 * 2, kernel.name  # fence and wait of each tap
        assert "MEMBAR" not in loop.opcodes, kernel.name  # arrivals at other blocks have no fence


def test_swapped_kernels_copy_by_tensor_maps(swap_ab_kernels: list[sass.Kernel]) -> None:
    """Pixels, filters and results; the kernels that do not pool also store the sums of a split."""
    for kernel in swap_ab_kernels:
        copies = {i.split()[0] for i in kernel.instructions if i.startswith(("UTMALDG", "UTMASTG"))}
        filters = "UTMALDG.2D" + ".MULTICAST" * ("_c2" in kernel.name)
        assert copies == {"UTMALDG.4D", filters, "UTMASTG.4D"}, kernel.name
        assert not {"LDGSTS", "LDS", "STS", "HMMA"} & kernel.opcodes.keys(), kernel.name
        assert {"LDG", "STSM"} <= kernel.opcodes.keys(), kernel.name
        assert ("STG" in kernel.opcodes) != kernel.name.endswith("_pool"), kernel.name


def test_swapped_kernels_multiply_in_warpgroups(swap_ab_kernels: list[sass.Kernel]) -> None:
    """Every HGMMA is in the main loop, which has nine taps."""
    for kernel in swap_ab_kernels:
        n = 240 if "_rows2" in kernel.name else 224
        opcode = f"HGMMA.64x{n}x16.F32" + ".BF16" * ("_bf16_" in kernel.name)
        assert {i.split()[0] for i in kernel.instructions if i.startswith("HGMMA")} == {opcode}
        loop = kernel.main_loop("HGMMA")
        assert loop, kernel.name
        assert loop.opcodes["HGMMA"] == kernel.opcodes["HGMMA"] == 9 * 4
        assert loop.opcodes["WARPGROUP"] == 9 * 2, kernel.name
        assert "MEMBAR" not in loop.opcodes, kernel.name


@pytest.mark.parametrize("family", SLOTS_PER_HGMMA)
def test_main_loops_of_convolutions_issue_little(
    family: str, halo_kernels: list[sass.Kernel], swap_ab_kernels: list[sass.Kernel]
) -> None:
    wrong = {}
    for kernel in members(family, SLOTS_PER_HGMMA, halo_kernels + swap_ab_kernels):
        loop = kernel.main_loop("HGMMA")
        assert loop, kernel.name
        if len(loop.instructions) > SLOTS_PER_HGMMA[family][1] * loop.opcodes["HGMMA"]:
            wrong[kernel.name] = f"{len(loop.instructions)} slots: {dict(loop.opcodes)}"
    assert not wrong


def test_dense_kernels_copy_by_tensor_maps(dense_kernels: list[sass.Kernel]) -> None:
    """Images and weights; sums are loaded from other blocks' shared memory (LD)."""
    for kernel in dense_kernels:
        copies = {i.split()[0] for i in kernel.instructions if i.startswith(("UTMALDG", "UTMASTG"))}
        assert copies == {"UTMALDG.2D"}, kernel.name
        assert not {"LDGSTS", "LDS", "HMMA"} & kernel.opcodes.keys(), kernel.name
        loads = [i.split()[0] for i in kernel.instructions if re.match(r"LD[. ]", i)]
        assert loads == ["LD.E.128"] * 8, kernel.name  # one of each split
        assert kernel.opcodes["LDG"] == 1, kernel.name  # the bias
        assert {i.split()[0] for i in kernel.instructions if i.startswith("STG")} == {
            "STG.E.64", "STG.E.U16",
        }, kernel.name  # fmt: skip


@pytest.mark.parametrize("family", DENSE_REGISTERS)
def test_registers_of_dense_kernels(family: str, dense_kernels: list[sass.Kernel]) -> None:
    found = members(family, DENSE_REGISTERS, dense_kernels)
    limit = DENSE_REGISTERS[family][1]
    assert limit * 288 * (1 if "256" in family else 2) <= REGISTERS_PER_SM
    assert not {k.name: k.registers for k in found if k.registers > limit}


def test_dense_kernels_multiply_in_warpgroups(dense_kernels: list[sass.Kernel]) -> None:
    """Every HGMMA is in the main loop, as wide as the tile has images; nothing else takes long."""
    for kernel in dense_kernels:
        [images] = re.findall(r"_m(\d+)n", kernel.name)
        opcode = f"HGMMA.64x{images}x16.F32" + ".BF16" * ("_bf16_" in kernel.name)
        assert {i.split()[0] for i in kernel.instructions if i.startswith("HGMMA")} == {opcode}
        loop = kernel.main_loop("HGMMA")
        assert loop, kernel.name
        assert loop.opcodes["HGMMA"] == kernel.opcodes["HGMMA"] == 4
        assert loop.opcodes["WARPGROUP"] == 2, kernel.name  # fence and wait of the step
        assert len(loop.instructions) <= SLOTS_PER_DENSE_HGMMA * 4, dict(loop.opcodes)


# Tensor maps of a kernel: x, w and y; sums of splits and dense layers are stored without a map, and
# the images of the fused block are loaded without one.
TENSOR_MAPS: Limits = {
    "split": (HALO.replace("(_pool|_split)?", "_split"), 2),
    "convolutions": (f"{HALO}|{SWAP_AB}", 3),
    "others": (f"{DENSE}|{FUSED_CONV1_BLOCK}", 2),
}


@pytest.mark.parametrize("family", TENSOR_MAPS)
def test_tensor_maps_are_prefetched(family: str, all_kernels: list[sass.Kernel]) -> None:
    kernels = [kernel for kernel in all_kernels if kernel.arch == HOPPER]
    found = {
        kernel.name: sum(i.startswith("UTMACCTL.PF") for i in kernel.instructions)
        for kernel in members(family, TENSOR_MAPS, kernels)
    }
    assert set(found.values()) == {TENSOR_MAPS[family][1]}, found


def test_only_sums_of_splits_wait_for_the_gpu(all_kernels: list[sass.Kernel]) -> None:
    """A release to the cluster waits until a thread's stores are visible to the whole GPU.

    Clusters of convolutions have one barrier, which is relaxed. Clusters of dense layers have two,
    around the reads of their sums.
    """
    for kernel in matching(HOPPER_KERNELS, [k for k in all_kernels if k.arch == HOPPER]):
        releases = sum(i.startswith("MEMBAR.ALL.GPU") for i in kernel.instructions)
        dense = bool(re.fullmatch(DENSE, kernel.name))
        assert releases == 2 * dense, kernel.name
        assert kernel.opcodes["UCGABAR_ARV"] == 2 * dense + ("_c2" in kernel.name), kernel.name


def test_fused_conv1_block_stays_in_shared_memory(
    block_kernels: list[sass.Kernel],
) -> None:
    """Tensor maps load filters and store results; nothing else is stored to global memory."""
    for kernel in block_kernels:
        copies = {i.split()[0] for i in kernel.instructions if i.startswith(("UTMALDG", "UTMASTG"))}
        assert copies == {"UTMALDG.2D", "UTMASTG.4D"}, kernel.name
        assert not {"STG", "ST", "LD", "LDGSTS", "LDS"} & kernel.opcodes.keys(), kernel.name
        assert kernel.opcodes["LDSM"], kernel.name
        assert kernel.opcodes["STSM"], kernel.name
        assert kernel.registers <= FUSED_CONV1_BLOCK_REGISTERS
        assert FUSED_CONV1_BLOCK_REGISTERS * 3 * 128 <= REGISTERS_PER_SM


def test_fused_conv1_block_multiplies_in_warpgroups(block_kernels: list[sass.Kernel]) -> None:
    """The second convolution: a column of the filter is three taps of four steps, twice; no wait
    until the tile is done.
    """
    for kernel in block_kernels:
        opcode = "HGMMA.64x112x16.F32" + ".BF16" * ("_bf16" in kernel.name)
        assert {i.split()[0] for i in kernel.instructions if i.startswith("HGMMA")} == {opcode}
        loop = kernel.main_loop("HGMMA")
        assert loop, kernel.name
        assert loop.opcodes["HGMMA"] == kernel.opcodes["HGMMA"] == 24
        assert loop.opcodes["WARPGROUP"] == 1, kernel.name  # its fence
        assert len(loop.instructions) <= SLOTS_PER_FUSED_CONV1_BLOCK_HGMMA * 24, dict(loop.opcodes)


def test_fused_conv1_block_issues_little_beside_wgmma(
    block_kernels: list[sass.Kernel],
) -> None:
    """The loop of the first convolution, one per dtype of x, fits into 4,032 cycles per tile."""
    for kernel in block_kernels:
        opcode = "HMMA.16816.F32" + ".BF16" * ("_bf16" in kernel.name)
        assert {i.split()[0] for i in kernel.instructions if i.startswith("HMMA.")} == {opcode}
        loops: list[sass.Loop] = []  # waits go on at the kernel's end: what begins inside is none
        for loop in sorted(kernel.loops, key=lambda each: (each.begin, len(each.instructions))):
            end = loops[-1].begin + len(loops[-1].instructions) if loops else 0
            if loop.opcodes["HMMA"] == 9 * 8 and loop.begin >= end:
                loops.append(loop)
        assert len(loops) == 3, kernel.name
        for loop in loops:
            assert loop.opcodes["LDSM"] == 9
            assert loop.opcodes["STSM"] == 4 * 8 + 2
            assert len(loop.instructions) <= FUSED_CONV1_BLOCK_SLOTS, dict(loop.opcodes)


@pytest.mark.emulator
@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("sm90/dense", DENSE),  # one module shows that both builds have the same options
        pytest.param("sm90/halo", HALO, marks=pytest.mark.slow),
        pytest.param("sm90/swap_ab", SWAP_AB, marks=pytest.mark.slow),
        pytest.param("sm90/fused_conv1_block", FUSED_CONV1_BLOCK, marks=pytest.mark.slow),
    ],
)
def test_the_emulator_runs_the_ptx_of_hoppers_kernels(
    module: str, names: str, all_kernels: list[sass.Kernel]
) -> None:
    """Hopper's PTX does not ship: ptxas makes the shipped code from it, without a warning."""
    kernels = matching(names, [kernel for kernel in all_kernels if kernel.arch == HOPPER])
    ptx = _C.emulator_modules()[module]
    if not sass.is_ptxas_of(ptx):
        pytest.skip("there is no ptxas of the release that compiled the kernels")
    assembled, warnings = sass.assemble(ptx, HOPPER)
    assert not warnings
    assert {k.name: k for k in assembled} == {k.name: k for k in kernels}


@pytest.mark.emulator
def test_the_emulator_runs_the_ptx_that_ships(ptx: list[str]) -> None:
    shipped = {name: text for each in ptx for name, text in by_entry(each).items()}
    emulated = {
        name: text
        for module, each in _C.emulator_modules().items()
        if not module.startswith("ptx/")  # for test_ptx_wrappers.py alone
        for name, text in by_entry(each).items()
        if not re.fullmatch(HOPPER_KERNELS, name)
    }
    assert shipped
    assert shipped.keys() == emulated.keys()
    assert not [name for name in shipped if shipped[name] != emulated[name]]


def by_entry(ptx: str) -> dict[str, tuple[str, str]]:
    """Return the text of each kernel, with the declarations before the first kernel of its file."""
    parts = sass.entries(sass.normalized_ptx(ptx))
    head = parts.pop("")
    return {name: (head, text) for name, text in parts.items()}
