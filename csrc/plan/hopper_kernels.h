// The kernels of sm90/persistent_conv.cuh, as data.

#pragma once

#include <string>
#include <vector>

#include "plan/arch.h"

namespace vgg {

struct HopperKernel {
  std::string name;  // "halo_m128n64_split", "swap_ab_rows2_c2_pool"
  Family family;
  bool pools;        // y is pooled
  bool whole, sums;  // can write y; can write float32 sums over a part of C

  int block_n, cluster, threads, stages, smem_bytes;
  int pixels;                  // of a block
  int tile_w, tile_h, images;  // of a tile, and tiles of a block
  int tiles;

  // Work of a block for 64 channels: issued multiply-adds, wgmma's n, bytes of pixels and filters.
  int macs, n, pixel_bytes, filter_bytes;
  int subtiles;  // in which a warpgroup writes a tile

  bool images_inner;         // boxes have all images of a pixel beside each other
  int box_w, box_h;          // of x
  int subtile_w, subtile_h;  // of y

  // The name without what a plan chooses by itself: "halo_m128n64_split", "swap_ab_rows2_c2".
  std::string base_name() const;
};

// The halo kernels, then the kernels with swapped operands; plans prefer the first of equals.
const std::vector<HopperKernel>& hopper_kernels();

}  // namespace vgg
