// cp.async.bulk: copies of contiguous bytes between global and shared memory, by the async proxy.
//
// With Options::lazy, loads complete when no warp can run and stores when their thread waits for
// them; otherwise both complete at once.

#include "emulator/instructions/bulk_copies.h"

#include <algorithm>
#include <cstring>

#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/run/block.h"
#include "emulator/run/cluster.h"

namespace vgg::emulator {

void begin_load(Warp& warp, const Instruction& in, int lane, const BulkLoad& load) {
  Cluster& cluster = warp.block->cluster();
  const bool multicast = load.blocks != 0;
  if (!multicast && load.to.block != load.mbarrier.block) {
    fail(warp, in, lane, "the mbarrier is not in the destination block");
  }
  if (load.blocks >> cluster.size() != 0) {
    fail(warp, in, lane,
         "copies to blocks outside its cluster of " + std::to_string(cluster.size()));
  }
  if (!load.generic_proxy) ++warp.block->counters.bulk_copies;
  for (int rank = 0; rank < cluster.size(); ++rank) {
    Block* block = &cluster.block(rank);
    if (multicast ? !is_active(load.blocks, rank) : block != load.to.block) continue;
    if (block->is_done()) {
      fail(warp, in, lane, "copies to shared memory of " + block->name() + ", which has ended");
    }
    const uint32_t offset = load.to.offset, mbarrier = load.mbarrier.offset, bytes = load.bytes;
    block->mbarriers.find(warp, in, lane, mbarrier, !load.generic_proxy);
    block->races.begin_async_write(warp, in, lane, offset, bytes, load.generic_proxy);
    if (!load.generic_proxy) block->counters.bulk_shared_bytes += bytes;
    auto complete = [=, &warp, &in, &cluster, copy = load.copy] {
      copy(block->shared.data(), offset);
      Mbarrier& counts = block->mbarriers.at_end_of_copy(warp, in, lane, mbarrier);
      const uint32_t stamp = cluster.time.tick();
      block->races.end_async_write(offset, bytes, counts.actor, stamp);
      block->note_access(counts.actor, stamp, warp, in);
      block->mbarriers.complete(warp, in, lane, counts, bytes, stamp);
    };
    cluster.start({&warp, &in, lane, block, complete});
  }
}

void begin_store(Warp& warp, const Instruction& in, int lane, uint32_t offset, uint32_t bytes,
                 std::function<void()> copy) {
  Block& block = *warp.block;
  block.races.check_async_read(warp, in, lane, offset, bytes);
  block.races.begin_async_read(warp, in, lane, offset, bytes);
  ++block.counters.bulk_copies;
  if (!block.options().lazy) {
    copy();
    copy = nullptr;
  }
  warp.bulk_stores.push_back(
      {&in, lane, warp.bulk_committed[lane], std::move(copy), {{offset, bytes}}});
}

uint64_t address_of(const Warp& warp, Operand base, bool wide, int64_t offset, int lane) {
  if (wide) return warp.lanes<uint64_t>(base)[lane] + offset;
  return warp.lanes<uint32_t>(base)[lane] + static_cast<uint32_t>(offset);
}

namespace {

constexpr uint32_t LINE = 16;  // bytes; addresses and sizes are multiples of it

enum Flags : uint8_t {  // Instruction::mode
  MULTICAST = 1,
  WIDE_SOURCE = 2,
  WIDE_MBARRIER = 4,
};

// Offsets of the second and third address, in Instruction::extra.
struct Offsets {
  int32_t source, mbarrier;
};

uint32_t checked_size(const Warp& warp, const Instruction& in, int lane, uint32_t bytes) {
  if (bytes % LINE == 0) return bytes;
  fail(warp, in, lane, "copies " + std::to_string(bytes) + " bytes: expected a multiple of 16");
}

void check_alignment(const Warp& warp, const Instruction& in, int lane, uint64_t address) {
  if (address % LINE == 0) return;
  fail(warp, in, lane, "copies at a global address that is not a multiple of 16");
}

// Operands: to, from, bytes, mbarrier, blocks.
void load(Warp& warp, const Instruction& in, uint32_t active) {
  Block& block = *warp.block;
  const auto offsets = bit_cast<Offsets>(in.extra);
  for_each_lane(active, [&](int lane) {
    const uint32_t bytes = checked_size(warp, in, lane, warp.lanes<uint32_t>(in.operands[2])[lane]);
    const uint64_t to = address_of(warp, in.operands[0], in.wide_address, in.immediate, lane);
    const uint64_t from =
        address_of(warp, in.operands[1], in.mode & WIDE_SOURCE, offsets.source, lane);
    const uint64_t mbarrier =
        address_of(warp, in.operands[3], in.mode & WIDE_MBARRIER, offsets.mbarrier, lane);
    BulkLoad load;
    load.to = locate_shared(warp, in, lane, to, in.space, bytes, LINE, "copies to");
    load.mbarrier = locate_shared(warp, in, lane, mbarrier, in.space, MBARRIER_BYTES,
                                  MBARRIER_BYTES, "uses as an mbarrier");
    load.bytes = bytes;
    if (in.mode & MULTICAST) load.blocks = warp.lanes<uint32_t>(in.operands[4])[lane] & 0xffff;
    check_alignment(warp, in, lane, from);
    block.global().check_bulk_read(warp, in, lane, from, bytes, block.number());
    block.counters.bulk_load_bytes += bytes;
    load.copy = [from, bytes](char* shared, uint32_t offset) {
      std::memcpy(shared + offset, reinterpret_cast<const void*>(from), bytes);
    };
    begin_load(warp, in, lane, load);
  });
}

// Operands: to, from, bytes.
void store(Warp& warp, const Instruction& in, uint32_t active) {
  Block& block = *warp.block;
  const auto offsets = bit_cast<Offsets>(in.extra);
  for_each_lane(active, [&](int lane) {
    const uint32_t bytes = checked_size(warp, in, lane, warp.lanes<uint32_t>(in.operands[2])[lane]);
    const uint64_t to = address_of(warp, in.operands[0], in.wide_address, in.immediate, lane);
    const uint64_t from =
        address_of(warp, in.operands[1], in.mode & WIDE_SOURCE, offsets.source, lane);
    const SharedPlace place =
        locate_shared(warp, in, lane, from, Space::shared, bytes, LINE, "copies from");
    check_alignment(warp, in, lane, to);
    block.global().check_bulk_write(warp, in, lane, to, bytes, block.number());
    block.counters.bulk_store_bytes += bytes;
    begin_store(warp, in, lane, place.offset, bytes, [&block, to, place, bytes] {
      std::memcpy(reinterpret_cast<void*>(to), block.shared.data() + place.offset, bytes);
    });
  });
}

void commit(Warp& warp, const Instruction&, uint32_t active) {
  for_each_lane(active, [&](int lane) { ++warp.bulk_committed[lane]; });
}

// A wait for the reads (.read) also completes the writes: a kernel cannot observe the difference.
void wait(Warp& warp, const Instruction& in, uint32_t active) {
  Block& block = *warp.block;
  const auto may_stay = static_cast<uint32_t>(in.immediate);
  auto& stores = warp.bulk_stores;
  for (BulkStore& store : stores) {
    const int lane = store.lane;
    if (!is_active(active, lane) || store.group + may_stay >= warp.bulk_committed[lane]) continue;
    if (store.copy) store.copy();
    for (const auto& [offset, bytes] : store.source) {
      block.races.end_async_read(warp, *store.instruction, lane, -1, offset, bytes, warp.stamp);
    }
    store.lane = -1;
  }
  stores.erase(std::remove_if(stores.begin(), stores.end(),
                              [](const BulkStore& store) { return store.lane < 0; }),
               stores.end());
}

void do_nothing(Warp&, const Instruction&, uint32_t) {}

}  // namespace

void decode_bulk_copy(Decoder& decoder, const PtxInstruction& from,
                      const std::vector<std::string>& words, Instruction& to) {
  const std::vector<std::string> kind(words.begin() + 2, words.end());
  auto is = [&](size_t i, const char* text) { return i < kind.size() && kind[i] == text; };
  if (is(0, "commit_group") && kind.size() == 1) {
    decoder.expect_operands(0);
    to.handler = commit;
    return;
  }
  if (is(0, "wait_group") && (kind.size() == 1 || (is(1, "read") && kind.size() == 2))) {
    decoder.expect_operands(1);
    to.immediate = static_cast<int64_t>(from.operands[0].bits);
    to.handler = wait;
    return;
  }
  if (is(0, "prefetch") && is(1, "L2") && is(2, "global") && kind.size() == 3) {
    decoder.expect_operands(2);
    to.handler = do_nothing;
    return;
  }
  if (is(0, "tensor") || (is(0, "prefetch") && is(1, "tensor"))) {
    return decode_tensor_copy(decoder, from, kind, to);
  }
  const bool loads = (is(0, "shared::cluster") || is(0, "shared::cta")) && is(1, "global");
  const bool stores = is(0, "global") && is(1, "shared::cta");
  Modifiers modifiers({kind.begin() + std::min<size_t>(2, kind.size()), kind.end()});
  const bool multicast = loads && modifiers.take("multicast::cluster");
  const bool hint = modifiers.take("L2::cache_hint");
  const bool completes = modifiers.take(loads ? "mbarrier::complete_tx::bytes" : "bulk_group");
  if ((!loads && !stores) || !completes || !modifiers.empty()) {
    decoder.fail("this copy is not modelled");
  }
  decoder.expect_operands((loads ? 4 : 3) + multicast + hint);
  decoder.kernel().has_async_proxy = true;
  to.space = is(0, "shared::cluster") ? Space::cluster : Space::shared;
  Instruction source, mbarrier;
  decoder.read_address(from.operands[0], to);
  decoder.read_address(from.operands[1], source);
  decoder.read(from.operands[2], WORD);
  if (loads) {
    decoder.kernel().has_mbarriers = true;
    decoder.read_address(from.operands[3], mbarrier);
    if (multicast) decoder.read(from.operands[4], HALF);
  }
  const Offsets offsets = {static_cast<int32_t>(source.immediate),
                           static_cast<int32_t>(mbarrier.immediate)};
  to.extra = bit_cast<uint64_t>(offsets);
  to.mode = (multicast ? MULTICAST : 0) | (source.wide_address ? WIDE_SOURCE : 0) |
            (mbarrier.wide_address ? WIDE_MBARRIER : 0);
  to.handler = loads ? load : store;
}

}  // namespace vgg::emulator
