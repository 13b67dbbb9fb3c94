// What the layers below run/ need of the block that a warp belongs to: its kernel, its place in the
// grid, and the time of its cluster.

#pragma once

#include <cstdint>
#include <string>

#include "emulator/core/clock.h"
#include "emulator/core/program.h"

namespace vgg::emulator {

struct BlockContext {
  const Kernel& kernel;
  const Options& options;
  Time& time;           // shared by the blocks of the cluster
  Dim3 cluster;         // size, in blocks
  int rank;             // in the cluster
  Dim3 index = {};      // in the grid
  uint32_t number = 0;  // `index` as one number, x fastest
  // Launches before this one may still run; false after griddepcontrol.wait.
  bool is_early = false;

  std::string name() const { return name_of(rank); }
  // "block (3,0,0)", for any block of the cluster.
  std::string name_of(int other_rank) const;
};

// Position of a block in its cluster, x fastest.
Dim3 index_in_cluster(const Dim3& cluster, int rank);

}  // namespace vgg::emulator
