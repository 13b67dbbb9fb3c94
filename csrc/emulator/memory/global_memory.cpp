#include "emulator/memory/global_memory.h"

#include <algorithm>
#include <cstdio>

#include "emulator/core/lanes.h"

namespace vgg::emulator {
namespace {

std::string range(const std::string& name, int64_t offset, uint32_t bytes) {
  return name + '[' + std::to_string(offset) + ':' + std::to_string(offset + bytes) + ']';
}

// Marks `bytes` (1, 2, 4, 8 or 16, aligned) as written. Returns whether any was marked before.
bool mark(std::atomic<uint8_t>* written, uint32_t bytes) {
  // One wide exchange is faster than one per byte; every byte is 0 or 1.
  bool before = false;
  auto* raw = reinterpret_cast<unsigned char*>(written);
  switch (bytes) {
    case 1:
      return __atomic_exchange_n(raw, 1, __ATOMIC_RELAXED) != 0;
    case 2:
      return __atomic_exchange_n(reinterpret_cast<uint16_t*>(raw), 0x0101, __ATOMIC_RELAXED) != 0;
    case 4:
      return __atomic_exchange_n(reinterpret_cast<uint32_t*>(raw), 0x01010101u, __ATOMIC_RELAXED) !=
             0;
    default:
      for (uint32_t i = 0; i < bytes; i += 8) {
        before |= __atomic_exchange_n(reinterpret_cast<uint64_t*>(raw + i), 0x0101010101010101u,
                                      __ATOMIC_RELAXED) != 0;
      }
      return before;
  }
}

// Whether earlier launches may still use memory with that access.
bool is_in_use(const Warp& warp, Buffer::Access access) {
  return access != Buffer::Access::constant && warp.context->is_early;
}

// Size of the largest piece at the start of the range that is aligned to its size, at most 16.
uint32_t aligned_part(uint64_t address, uint64_t end) {
  uint32_t part = 16;
  while (address % part != 0 || address + part > end) part /= 2;
  return part;
}

}  // namespace

const GlobalMemory::Region& GlobalMemory::find(const Warp& warp, const Instruction& in, int lane,
                                               uint64_t address, uint32_t bytes,
                                               const char* verb) const {
  const Region* nearest = nullptr;
  uint64_t nearest_distance = ~uint64_t{0};
  for (const Region& region : regions_) {
    if (address >= region.begin && address + bytes <= region.end && address + bytes > address) {
      if (address % bytes != 0) {
        fail(warp, in, lane,
             std::string(verb) + ' ' + range(region.name, address - region.begin, bytes) +
                 ", which is misaligned: the address must be a multiple of " +
                 std::to_string(bytes));
      }
      if (is_in_use(warp, region.access)) {
        fail(warp, in, lane,
             std::string(verb) + ' ' + range(region.name, address - region.begin, bytes) +
                 " before griddepcontrol.wait, while launches before this one may still run");
      }
      return region;
    }
    const uint64_t distance =
        address < region.begin ? region.begin - address : address + bytes - region.end;
    if (distance < nearest_distance) {
      nearest = &region;
      nearest_distance = distance;
    }
  }
  char hex[32];
  std::snprintf(hex, sizeof(hex), "0x%llx", static_cast<unsigned long long>(address));
  if (nearest == nullptr || nearest_distance > (uint64_t{1} << 40)) {
    fail(warp, in, lane,
         std::string(verb) + ' ' + std::to_string(bytes) + " bytes at " + hex +
             ", which is in no buffer");
  }
  const auto offset = static_cast<int64_t>(address - nearest->begin);
  fail(warp, in, lane,
       std::string(verb) + ' ' + range(nearest->name, offset, bytes) +
           (offset < 0 ? " before" : " past") + " its " +
           std::to_string(nearest->end - nearest->begin) + " bytes");
}

const GlobalMemory::Region* GlobalMemory::find_all(const Warp& warp, const uint64_t* addresses,
                                                   uint32_t bytes) const {
  uint64_t low = addresses[0], high = addresses[0], bits = 0;
  for (int i = 0; i < LANES; ++i) {
    low = std::min(low, addresses[i]);
    high = std::max(high, addresses[i]);
    bits |= addresses[i];
  }
  if (bits % bytes != 0) return nullptr;
  for (const Region& region : regions_) {
    if (low < region.begin || high >= region.end || high + bytes > region.end) continue;
    return is_in_use(warp, region.access) ? nullptr : &region;
  }
  return nullptr;
}

void GlobalMemory::check_written(const Warp& warp, const Instruction& in, int lane,
                                 const Region& region, uint64_t address, uint32_t bytes,
                                 uint32_t block) const {
  const uint64_t offset = address - region.begin;
  if (region.access == Buffer::Access::write_once) {
    for (uint32_t i = 0; i < bytes; ++i) {
      if (region.written[offset + i].load(std::memory_order_relaxed) != 0) continue;
      fail(warp, in, lane,
           "reads " + range(region.name, offset, bytes) + " before it has been written");
    }
  }
  for (uint64_t i = offset / granularity_; i < (offset + bytes) / granularity_; ++i) {
    const uint32_t writer = region.writer[i].load(std::memory_order_relaxed);
    if (writer == 0 || writer == block + 1) continue;
    fail(warp, in, lane,
         "race: reads " + range(region.name, offset, bytes) + ", which block number " +
             std::to_string(writer - 1) + " of the same launch wrote");
  }
}

void GlobalMemory::check_read(const Warp& warp, const Instruction& in, uint32_t active,
                              const uint64_t* addresses, uint32_t bytes, uint32_t block) {
  const Region* region = find_all(warp, addresses, bytes);
  if (region != nullptr && region->may_read_freely()) return;
  for_each_lane(active,
                [&](int lane) { check_read_one(warp, in, lane, addresses[lane], bytes, block); });
}

void GlobalMemory::check_read_one(const Warp& warp, const Instruction& in, int lane,
                                  uint64_t address, uint32_t bytes, uint32_t block) {
  const Region& region = find(warp, in, lane, address, bytes, "reads");
  if (!region.may_read_freely()) check_written(warp, in, lane, region, address, bytes, block);
}

void GlobalMemory::note_write(const Warp& warp, const Instruction& in, int lane,
                              const Region& region, uint64_t address, uint32_t bytes,
                              uint32_t block) {
  const uint64_t offset = address - region.begin;
  if (region.is_read_only()) {
    fail(warp, in, lane,
         "writes " + range(region.name, offset, bytes) + ", but the buffer is read-only");
  }
  if (region.written != nullptr) {
    bool again = false;
    if (offset % bytes == 0) {
      again = mark(&region.written[offset], bytes);
    } else {  // the buffer does not start at a multiple of `bytes`
      for (uint32_t i = 0; i < bytes; ++i) again |= mark(&region.written[offset + i], 1);
    }
    if (again) {
      fail(warp, in, lane,
           "writes " + range(region.name, offset, bytes) + ", which was already written");
    }
  }
  if (region.writer == nullptr) return;
  for (uint64_t i = offset / granularity_; i < (offset + bytes) / granularity_; ++i) {
    const uint32_t before = region.writer[i].exchange(block + 1, std::memory_order_relaxed);
    if (before == 0 || before == block + 1) continue;
    fail(warp, in, lane,
         "race: writes " + range(region.name, offset, bytes) + ", which block number " +
             std::to_string(before - 1) + " wrote too");
  }
}

void GlobalMemory::check_write(const Warp& warp, const Instruction& in, uint32_t active,
                               const uint64_t* addresses, uint32_t bytes, uint32_t block) {
  const Region* common = find_all(warp, addresses, bytes);
  if (common != nullptr && common->writer == nullptr && common->written == nullptr &&
      common->access == Buffer::Access::any) {
    return;
  }
  for_each_lane(active, [&](int lane) {
    const Region& region =
        common != nullptr ? *common : find(warp, in, lane, addresses[lane], bytes, "writes");
    note_write(warp, in, lane, region, addresses[lane], bytes, block);
  });
}

void GlobalMemory::check_atomic(const Warp& warp, const Instruction& in, uint32_t active,
                                const uint64_t* addresses, uint32_t bytes) {
  for_each_lane(active, [&](int lane) {
    const Region& region = find(warp, in, lane, addresses[lane], bytes, "updates");
    if (region.access != Buffer::Access::any) {
      fail(warp, in, lane,
           "updates " + range(region.name, addresses[lane] - region.begin, bytes) +
               " atomically: expected a buffer with Access::any");
    }
  });
}

void GlobalMemory::check_bulk_read(const Warp& warp, const Instruction& in, int lane,
                                   uint64_t address, uint32_t bytes, uint32_t block) {
  const uint64_t end = address + bytes;
  for (const Region& region : regions_) {
    if (address < region.begin || end > region.end) continue;
    if (is_in_use(warp, region.access)) break;
    if (region.may_read_freely()) return;
    return check_written(warp, in, lane, region, address, bytes, block);
  }
  while (address < end) {
    const uint32_t part = aligned_part(address, end);
    find(warp, in, lane, address, part, "reads");
    address += part;
  }
}

void GlobalMemory::check_bulk_write(const Warp& warp, const Instruction& in, int lane,
                                    uint64_t address, uint32_t bytes, uint32_t block) {
  for (const uint64_t end = address + bytes; address < end;) {
    const uint32_t part = aligned_part(address, end);
    const Region& region = find(warp, in, lane, address, part, "writes");
    note_write(warp, in, lane, region, address, part, block);
    address += part;
  }
}

int count_sectors(const uint64_t* addresses, uint32_t active) {
  uint64_t sectors[LANES];
  int count = 0;
  bool sorted = true;
  for_each_lane(active, [&](int lane) {
    const uint64_t sector = addresses[lane] / 32;
    if (count > 0 && sector == sectors[count - 1]) return;
    sorted &= count == 0 || sector > sectors[count - 1];
    sectors[count++] = sector;
  });
  if (sorted) return count;
  std::sort(sectors, sectors + count);
  return static_cast<int>(std::unique(sectors, sectors + count) - sectors);
}

}  // namespace vgg::emulator
