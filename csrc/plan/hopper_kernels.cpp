#include "plan/hopper_kernels.h"

#include "kernels/sm90/halo_tile.h"
#include "kernels/sm90/swap_ab_tile.h"

namespace vgg {

namespace {

using sm90::Result;

// Properties that both families derive in the same way.
template <class Tile>
HopperKernel kernel(const char* name) {
  HopperKernel kernel{};
  kernel.name = name;
  kernel.pools = Tile::POOL;
  kernel.sums = Tile::SPLIT;
  kernel.block_n = Tile::BLOCK_N;
  kernel.cluster = Tile::CLUSTER;
  kernel.threads = Tile::THREADS;
  kernel.stages = Tile::PIXEL_STAGES;
  kernel.smem_bytes = sizeof(sm90::ConvStorage<Tile>);
  kernel.pixels = Tile::PIXELS;
  kernel.tile_w = Tile::TILE_W;
  kernel.tile_h = Tile::TILE_H;
  kernel.pixel_bytes = Tile::CHUNK_STAGES * Tile::PIXEL_STAGE_BYTES;
  kernel.filter_bytes = 9 * Tile::FILTER_STAGE_BYTES;
  return kernel;
}

template <int BLOCK_N, int M_TILES, int CLUSTER, Result RESULT>
HopperKernel halo(const char* name) {
  using Tile = sm90::HaloTile<BLOCK_N, M_TILES, CLUSTER, RESULT>;
  HopperKernel halo = kernel<Tile>(name);
  halo.family = Family::halo;
  halo.whole = !Tile::SPLIT;
  halo.images = 1;
  halo.tiles = Tile::CONSUMERS;
  halo.n = BLOCK_N;
  halo.macs = 9 * Tile::PIXELS * BLOCK_N * Tile::CHANNELS;
  halo.subtiles = Tile::TILE_SUBTILES;
  halo.box_w = Tile::TILE_W;
  halo.box_h = Tile::TILE_H + 2;
  halo.subtile_w = halo.subtile_h = Tile::POOL ? 4 : 8;
  return halo;
}

template <int ROWS, int CLUSTER, bool POOL>
HopperKernel swap_ab(const char* name) {
  using Tile = sm90::SwapAbTile<ROWS, CLUSTER, POOL>;
  HopperKernel swap_ab = kernel<Tile>(name);
  swap_ab.family = Family::swap_ab;
  swap_ab.whole = true;
  swap_ab.images = Tile::IMAGES;
  swap_ab.tiles = 1;
  swap_ab.n = Tile::GROUPS * Tile::IMAGES;
  swap_ab.macs = 9 * swap_ab.n * Tile::BLOCK_N * Tile::CHANNELS;
  swap_ab.subtiles = Tile::TILE_W * Tile::TILE_H / Tile::SUBTILE_W;
  swap_ab.images_inner = true;
  swap_ab.box_w = Tile::BOX_W;
  swap_ab.box_h = Tile::BOX_H;
  swap_ab.subtile_w = Tile::SUBTILE_W;
  swap_ab.subtile_h = 1;
  return swap_ab;
}

}  // namespace

std::string HopperKernel::base_name() const {
  return pools ? name.substr(0, name.rfind("_pool")) : name;
}

const std::vector<HopperKernel>& hopper_kernels() {
  static const std::vector<HopperKernel> kernels = {
#define HALO(NAME, ...) halo<__VA_ARGS__>(#NAME),
#include "kernels/sm90/halo.def"
#undef HALO
#define SWAP_AB(NAME, ...) swap_ab<__VA_ARGS__>(#NAME),
#include "kernels/sm90/swap_ab.def"
#undef SWAP_AB
  };
  return kernels;
}

}  // namespace vgg
