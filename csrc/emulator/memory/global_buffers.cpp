// Global memory: set-up of the buffers, and the check at the end of a launch.

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "emulator/memory/global_memory.h"

namespace vgg::emulator {
namespace {

// Allocates zeros with calloc, which need not touch the pages.
template <class T>
T* zeros(size_t count) {
  void* memory = std::calloc(std::max<size_t>(count, 1), sizeof(T));
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<T*>(memory);
}

bool is_read_only(Buffer::Access access) {
  return access == Buffer::Access::read || access == Buffer::Access::constant;
}

}  // namespace

GlobalMemory::GlobalMemory(const std::vector<Buffer>& buffers, uint32_t granularity, bool races)
    : granularity_(granularity) {
  using Access = Buffer::Access;
  for (const Buffer& buffer : buffers) {
    if (buffer.bytes < 0) throw Error("buffer " + buffer.name + " has a negative size");
    const auto begin = reinterpret_cast<uint64_t>(buffer.data);
    const uint64_t end = begin + buffer.bytes;
    const auto same = std::find_if(regions_.begin(), regions_.end(), [&](const Region& other) {
      return begin < other.end && other.begin < end;
    });
    if (same == regions_.end()) {
      regions_.push_back({buffer.name, begin, end, buffer.access, nullptr, nullptr});
      continue;
    }
    if (same->begin != begin || same->end != end) {
      throw Error("buffers " + same->name + " and " + buffer.name + " overlap");
    }
    same->name += '/' + buffer.name;  // the kernel works in place
    if (same->access == Access::any || buffer.access == Access::any) {
      same->access = Access::any;
    } else if (!same->is_read_only() || !is_read_only(buffer.access)) {
      same->access = Access::update;
    } else if (same->access != buffer.access) {
      same->access = Access::read;
    }
  }
  for (Region& region : regions_) {
    const size_t bytes = region.end - region.begin;
    if (region.access == Access::write_once) {
      std::memset(reinterpret_cast<void*>(region.begin), 0xff, bytes);
    }
    if (region.access == Access::write_once || region.access == Access::update) {
      region.written.reset(zeros<std::atomic<uint8_t>>(bytes + 16));
    }
    if (region.access == Access::write_once || (!region.is_read_only() && races)) {
      region.writer.reset(zeros<std::atomic<uint32_t>>(bytes / granularity + 16));
    }
  }
}

void GlobalMemory::check_all_written(const std::string& kernel) const {
  for (const Region& region : regions_) {
    if (region.written == nullptr) continue;
    const size_t bytes = region.end - region.begin;
    const auto* written = reinterpret_cast<const unsigned char*>(region.written.get());
    const void* first = std::memchr(written, 0, bytes);
    if (first == nullptr) continue;
    const auto missing = std::count(written, written + bytes, 0);
    const auto offset = static_cast<const unsigned char*>(first) - written;
    throw Error("kernel " + kernel + ": " + std::to_string(missing) + " of the " +
                std::to_string(bytes) + " bytes of " + region.name +
                " were never written, the first at offset " + std::to_string(offset));
  }
}

}  // namespace vgg::emulator
