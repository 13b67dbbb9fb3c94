// The buffers of a launch: what may be read and written where, and what has been written.

#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "emulator/core/warp.h"

namespace vgg::emulator {

class GlobalMemory {
 public:
  // `granularity`: bytes of the smallest access. Fills write_once buffers with 0xff.
  GlobalMemory(const std::vector<Buffer>& buffers, uint32_t granularity, bool races);

  // Whether the active threads may do this: in bounds, aligned, allowed. Addresses of inactive
  // threads must be those of active ones.
  void check_read(const Warp& warp, const Instruction& in, uint32_t active,
                  const uint64_t* addresses, uint32_t bytes, uint32_t block);
  // The same, and notes the bytes as written, by `block`.
  void check_write(const Warp& warp, const Instruction& in, uint32_t active,
                   const uint64_t* addresses, uint32_t bytes, uint32_t block);
  void check_atomic(const Warp& warp, const Instruction& in, uint32_t active,
                    const uint64_t* addresses, uint32_t bytes);
  void check_read_one(const Warp& warp, const Instruction& in, int lane, uint64_t address,
                      uint32_t bytes, uint32_t block);

  // Of a bulk copy: any number of bytes.
  void check_bulk_read(const Warp& warp, const Instruction& in, int lane, uint64_t address,
                       uint32_t bytes, uint32_t block);
  void check_bulk_write(const Warp& warp, const Instruction& in, int lane, uint64_t address,
                        uint32_t bytes, uint32_t block);

  // At the end of a launch: throws Error if bytes were left unwritten.
  void check_all_written(const std::string& kernel) const;

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  struct Region {
    std::string name;
    uint64_t begin, end;
    Buffer::Access access;
    std::unique_ptr<std::atomic<uint8_t>[], Free> written;  // by byte; unless access is `any`
    std::unique_ptr<std::atomic<uint32_t>[], Free> writer;  // block + 1, by granule
    bool may_read_freely() const { return writer == nullptr || access == Buffer::Access::any; }
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

// 32-byte sectors that these accesses touch, each of at most 16 aligned bytes.
int count_sectors(const uint64_t* addresses, uint32_t active);

}  // namespace vgg::emulator
