// The block that a warp belongs to, as the folders below run/ see it: kernel, position, time.

#pragma once

#include <cstdint>
#include <string>

#include "emulator/core/clock.h"
#include "emulator/core/program.h"

namespace vgg::emulator {

struct BlockContext {
  const Kernel& kernel;
  const Options& options;
  Time& time;             // shared by all blocks of the cluster
  Dim3 cluster;           // size in blocks
  int rank;               // position in the cluster
  Dim3 index = {};        // position in the grid
  uint32_t number = 0;    // `index` as one number, x fastest
  bool is_early = false;  // earlier launches may still run: until griddepcontrol.wait

  std::string name() const { return name_of(rank); }
  // Name of any block of the cluster, "block (3,0,0)".
  std::string name_of(int other_rank) const;
};

// Position of a block in its cluster, x fastest.
Dim3 index_in_cluster(const Dim3& cluster, int rank);

}  // namespace vgg::emulator
