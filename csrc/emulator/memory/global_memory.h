// Global memory: checks accesses to the buffers of a launch and records what has been written.

#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "emulator/core/warp.h"

namespace vgg::emulator {

class GlobalMemory {
 public:
  // Fills write_once buffers with 0xff. `granularity`: bytes of the kernel's smallest access.
  GlobalMemory(const std::vector<Buffer>& buffers, uint32_t granularity, bool races);

  // Check bounds, alignment and access rights; throw Error. Inactive threads must have the address
  // of an active thread. `block`: the number of the block. Writes are recorded.
  void check_read(const Warp& warp, const Instruction& in, uint32_t active,
                  const uint64_t* addresses, uint32_t bytes, uint32_t block);
  void check_write(const Warp& warp, const Instruction& in, uint32_t active,
                   const uint64_t* addresses, uint32_t bytes, uint32_t block);
  void check_atomic(const Warp& warp, const Instruction& in, uint32_t active,
                    const uint64_t* addresses, uint32_t bytes);
  void check_read_one(const Warp& warp, const Instruction& in, int lane, uint64_t address,
                      uint32_t bytes, uint32_t block);

  // Checks for bulk copies, of any number of bytes.
  void check_bulk_read(const Warp& warp, const Instruction& in, int lane, uint64_t address,
                       uint32_t bytes, uint32_t block);
  void check_bulk_write(const Warp& warp, const Instruction& in, int lane, uint64_t address,
                        uint32_t bytes, uint32_t block);

  // Throws Error if bytes that the launch had to write are unwritten.
  void check_all_written(const std::string& kernel) const;

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  struct Region {
    std::string name;
    uint64_t begin, end;
    Buffer::Access access;
    std::unique_ptr<std::atomic<uint8_t>[], Free> written;  // per byte: 0 or 1
    std::unique_ptr<std::atomic<uint32_t>[], Free> writer;  // per granule: block + 1, or 0
    bool may_read_freely() const { return writer == nullptr || access == Buffer::Access::any; }
    bool is_read_only() const {
      return access == Buffer::Access::read || access == Buffer::Access::constant;
    }
  };

  const Region& find(const Warp& warp, const Instruction& in, int lane, uint64_t address,
                     uint32_t bytes, const char* verb) const;
  const Region* find_all(const Warp& warp, const uint64_t* addresses, uint32_t bytes) const;
  void note_write(const Warp& warp, const Instruction& in, int lane, const Region& region,
                  uint64_t address, uint32_t bytes, uint32_t block);
  void check_written(const Warp& warp, const Instruction& in, int lane, const Region& region,
                     uint64_t address, uint32_t bytes, uint32_t block) const;

  std::vector<Region> regions_;
  uint32_t granularity_;
};

// Counts the 32-byte sectors touched by accesses of at most 16 aligned bytes.
int count_sectors(const uint64_t* addresses, uint32_t active);

}  // namespace vgg::emulator
