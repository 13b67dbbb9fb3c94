// The kernels of the first two convolutions.

#include "kernels/sm90/first_block.cuh"

namespace vgg::sm90 {

#define FIRST_BLOCK(NAME, T)                                               \
  extern "C" __global__ void __launch_bounds__(FirstBlockTile::THREADS, 1) \
      NAME(const __grid_constant__ FirstBlockParams p) {                   \
    first_block<T>(p);                                                     \
  }
#include "kernels/sm90/first_block.def"

}  // namespace vgg::sm90
