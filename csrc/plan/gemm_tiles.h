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
  std::string name() const;  // the variant without "_pool"
};

const std::vector<GemmTile>& gemm_tiles(DType dtype);

// A matrix product for which a tile is chosen.
struct GemmProblem {
  Operation operation;
  DType dtype;
  int64_t gemm_m, gemm_n, gemm_k;
  Rows rows;
  bool pool;  // windows are pooled; gemm_m counts their pixels
};

struct GemmChoice {
  const GemmTile* tile;
  int split_k;  // if > 1, the tile does not pool: the second launch pools
  int steps;
  Estimate estimate;
};

// Returns the tile and the number of splits with the least estimated time. The choice depends only
// on the arguments. If `name` is not empty, only tiles with that name are considered.
GemmChoice choose_tile(const GemmProblem& problem, const ArchSpec& arch,
                       const std::string& name = {});

// Returns the estimate of a launch whose tiles have a single step. Loads, products and stores of
// different blocks overlap.
Estimate estimate_one_step(const Plan& plan, DType dtype, int warps, const ArchSpec& arch);

// Returns the names of the tiles that choose_tile() considers.
std::vector<std::string> tile_names(const GemmProblem& problem, const ArchSpec& arch);

}  // namespace vgg
