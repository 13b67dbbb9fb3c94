#include "emulator/instructions/memory_access.h"

#include <algorithm>
#include <cstring>

#include "emulator/run/block.h"
#include "emulator/run/cluster.h"

namespace vgg::emulator {
namespace {

const char* verb_of(AccessKind kind) {
  return kind == AccessKind::read ? "reads" : kind == AccessKind::write ? "writes" : "updates";
}

void resolve_shared(Warp& warp, const Instruction& in, uint32_t active, uint32_t bytes,
                    AccessKind kind, Addresses& addresses) {
  Block& block = *warp.block;
  block.shared.check(warp, in, active, addresses.of, bytes, verb_of(kind));
  block.shared.count_passes(block.counters, active, addresses.of, bytes);
  if (kind == AccessKind::read) {
    uint64_t difference = 0;
    for (int i = 0; i < LANES; ++i) difference |= addresses.of[i] ^ addresses.of[0];
    // If all threads read the same bytes, two of them represent all: a single one might have
    // written the bytes itself.
    const int first = __builtin_ctz(active), last = 31 - __builtin_clz(active);
    const uint32_t readers = difference == 0 ? 1u << first | 1u << last : active;
    block.races.read(warp, in, readers, addresses.of, bytes);
  } else if (kind == AccessKind::write) {
    block.races.write(warp, in, active, addresses.of, bytes);
  } else {
    block.races.atomic(warp, in, active, addresses.of, bytes);
  }
  const auto host = reinterpret_cast<uint64_t>(block.shared.data());
  for (uint64_t& address : addresses.of) address += host;
}

// Resolves thread by thread, because each thread may address another block.
void resolve_cluster(Warp& warp, const Instruction& in, uint32_t active, uint32_t bytes,
                     AccessKind kind, Addresses& addresses) {
  for_each_lane(active, [&](int lane) {
    const SharedPlace place = locate_shared(warp, in, lane, addresses.of[lane], Space::cluster,
                                            bytes, bytes, verb_of(kind));
    RaceDetector& races = place.block->races;
    if (place.block != warp.block) place.block->note_access(warp.actor, warp.stamp, warp, in);
    uint64_t offsets[LANES];
    std::fill(std::begin(offsets), std::end(offsets), place.offset);
    if (kind == AccessKind::read) {
      races.read(warp, in, 1u << lane, offsets, bytes);
    } else if (kind == AccessKind::write) {
      races.write(warp, in, 1u << lane, offsets, bytes);
    } else {
      races.atomic(warp, in, 1u << lane, offsets, bytes);
    }
    addresses.of[lane] = reinterpret_cast<uint64_t>(place.block->shared.data()) + place.offset;
  });
}

void resolve_global(Warp& warp, const Instruction& in, uint32_t active, uint32_t bytes,
                    AccessKind kind, const Addresses& addresses) {
  Block& block = *warp.block;
  const uint32_t threads = __builtin_popcount(active);
  if (kind == AccessKind::read) {
    block.global().check_read(warp, in, active, addresses.of, bytes, block.number());
    block.counters.load_bytes += threads * bytes;
    block.counters.load_sectors += count_sectors(addresses.of, active);
  } else if (kind == AccessKind::write) {
    block.global().check_write(warp, in, active, addresses.of, bytes, block.number());
    block.counters.store_bytes += threads * bytes;
    block.counters.store_sectors += count_sectors(addresses.of, active);
  } else {
    block.global().check_atomic(warp, in, active, addresses.of, bytes);
  }
}

// Resolves .param and .local.
void resolve_private(Warp& warp, const Instruction& in, uint32_t active, Space space,
                     uint32_t bytes, AccessKind kind, Addresses& addresses) {
  const Kernel& kernel = warp.block->kernel();
  const bool param = space == Space::param;
  const uint32_t base = param ? PARAM_BASE : LOCAL_BASE;
  const uint32_t size = param ? kernel.param_bytes : kernel.local_bytes;
  if (param && kind != AccessKind::read) fail(warp, in, -1, "writes the kernel's parameters");
  for (int lane = 0; lane < LANES; ++lane) {
    const uint64_t offset = addresses.of[lane] - base;
    if (offset >= size || offset + bytes > size || offset % bytes != 0) {
      fail(warp, in, __builtin_ctz(active),
           std::string(verb_of(kind)) + ' ' + std::to_string(bytes) + " bytes at offset " +
               std::to_string(static_cast<int64_t>(offset)) + " of its " + std::to_string(size) +
               " bytes of " + (param ? "parameters" : "local memory"));
    }
    const char* host = param ? warp.block->params() : warp.block->local(warp, lane);
    addresses.of[lane] = reinterpret_cast<uint64_t>(host) + offset;
  }
}

}  // namespace

Addresses read_addresses(const Warp& warp, uint32_t active, Operand base, bool wide,
                         int64_t offset) {
  Addresses addresses;
  if (wide) {
    const auto* lanes = warp.lanes<uint64_t>(base);
    for (int i = 0; i < LANES; ++i) addresses.of[i] = lanes[i] + offset;
  } else {
    const auto* lanes = warp.lanes<uint32_t>(base);
    const auto offset32 = static_cast<uint32_t>(offset);
    for (int i = 0; i < LANES; ++i) addresses.of[i] = lanes[i] + offset32;
  }
  if (active != ALL_LANES) {
    const uint64_t first = addresses.of[__builtin_ctz(active)];
    for (int i = 0; i < LANES; ++i) {
      addresses.of[i] = is_active(active, i) ? addresses.of[i] : first;
    }
  }
  return addresses;
}

Space space_of(const Warp& warp, uint64_t generic, uint64_t& address) {
  const uint64_t window = generic & WINDOW_MASK;
  address = generic;
  if (window != SHARED_WINDOW && window != LOCAL_WINDOW && window != PARAM_WINDOW) {
    return Space::global;
  }
  address = generic & ~WINDOW_MASK;
  if (window == LOCAL_WINDOW) return Space::local;
  if (window == PARAM_WINDOW) return Space::param;
  const auto rank = static_cast<uint64_t>(warp.context->rank);
  return address >> RANK_SHIFT == rank ? Space::shared : Space::cluster;
}

SharedPlace locate_shared(const Warp& warp, const Instruction& in, int lane, uint64_t address,
                          Space space, uint32_t bytes, uint32_t align, const char* verb) {
  if (space == Space::generic) {
    space = space_of(warp, address, address);
    if (space != Space::shared && space != Space::cluster) {
      fail(warp, in, lane, std::string(verb) + " an address that is not in shared memory");
    }
  }
  Block* block = warp.block;
  const uint64_t rank = address >> RANK_SHIFT;
  if (rank != static_cast<uint64_t>(block->rank()) &&
      rank < static_cast<uint64_t>(block->cluster().size())) {
    block = &block->cluster().block(static_cast<int>(rank));
    if (space == Space::shared) {
      fail(warp, in, lane,
           std::string(verb) + " shared memory of " + block->name() +
               ", at an address that is not in the thread's own block (shared::cta)");
    }
    if (block->is_done()) {
      fail(warp, in, lane,
           std::string(verb) + " shared memory of " + block->name() + ", which has ended");
    }
  }
  const auto offset = static_cast<int64_t>(address - block->shared.base());
  auto range = [&] {
    return std::string(verb) + " shared memory bytes " + std::to_string(offset) + " to " +
           std::to_string(offset + bytes);
  };
  if (offset < 0 || offset + bytes > block->shared.bytes()) {
    fail(warp, in, lane,
         range() + ", outside the block's " + std::to_string(block->shared.bytes()));
  }
  if (offset % align != 0) {
    fail(warp, in, lane,
         range() + ", which is misaligned: the address must be a multiple of " +
             std::to_string(align));
  }
  return {block, static_cast<uint32_t>(offset)};
}

void resolve(Warp& warp, const Instruction& in, uint32_t active, Space space, uint32_t bytes,
             AccessKind kind, Addresses& addresses) {
  switch (space) {
    case Space::shared:
      return resolve_shared(warp, in, active, bytes, kind, addresses);
    case Space::cluster:
      return resolve_cluster(warp, in, active, bytes, kind, addresses);
    case Space::global:
      return resolve_global(warp, in, active, bytes, kind, addresses);
    default:
      return resolve_private(warp, in, active, space, bytes, kind, addresses);
  }
}

}  // namespace vgg::emulator
