// The compiled tiles of matrix products, as data, and the choice among them.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dtype.h"
#include "plan/arch.h"
#include "plan/plan.h"

namespace vgg {

enum class Operation { conv3x3, linear };
enum class Rows { dense, im2col, gathered };

struct GemmTile {
  Operation operation;
  const char* variant;  // "m128n128_pool"
  int block_m, block_n, row_bytes, warps, stages;
  Rows rows;
  bool pool;

  int block_k(DType dtype) const { return row_bytes / static_cast<int>(size_bytes(dtype)); }
  int smem_bytes() const { return stages * (block_m + block_n) * row_bytes; }
  std::string name() const;  // the variant, whether it pools or not
};

const std::vector<GemmTile>& gemm_tiles(DType dtype);

// A matrix product whose tile is to be chosen.
struct GemmProblem {
  Operation operation;
  DType dtype;
  int64_t gemm_m, gemm_n, gemm_k;
  Rows rows;
  bool pool;  // windows are pooled: gemm_m counts their pixels
};

struct GemmChoice {
  const GemmTile* tile;
  int split_k;  // > 1: the tile does not pool, whatever the problem says; the second launch does
  int steps;
};

// The tile, and the number of splits, whose estimated time is least; the same for the same
// problem and architecture. `name`: of tiles of that name only, if it is not empty.
GemmChoice choose_tile(const GemmProblem& problem, const ArchSpec& arch,
                       const std::string& name = {});

// The names of the tiles that it chooses from.
std::vector<std::string> tile_names(const GemmProblem& problem, const ArchSpec& arch);

}  // namespace vgg
