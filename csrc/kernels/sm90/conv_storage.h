// Shared memory of a block of Hopper's convolutions. The host uses its size; kernels use 32-bit
// addresses: the start of shared memory plus an offsetof.

#pragma once

#include "kernels/sm90/ring_barriers.h"

namespace vgg::sm90 {

// Operands and results are swizzled in periods of 1024 bytes, to which every buffer is aligned.
// Tile is HaloTile or SwapAbTile.
template <class Tile>
struct ConvStorage {
  alignas(1024) unsigned char pixels[Tile::PIXEL_STAGES][Tile::PIXEL_STAGE_BYTES];
  alignas(1024) unsigned char filters[Tile::FILTER_STAGES][Tile::FILTER_STAGE_BYTES];
  alignas(1024) unsigned char out[Tile::OUT_BYTES];  // [CONSUMERS][SUBTILE_BUFFERS][SUBTILE_BYTES]
  RingBarriers<Tile::PIXEL_STAGES> pixel_barriers;
  RingBarriers<Tile::FILTER_STAGES> filter_barriers;
  uint64_t launches_ended;  // see debug_waits.cuh
};

}  // namespace vgg::sm90
