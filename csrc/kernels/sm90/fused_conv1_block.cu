// Kernels of the first two convolutions.

#include "kernels/sm90/fused_conv1_block.cuh"

namespace vgg::sm90 {

#define FUSED_CONV1_BLOCK(NAME, T)                                              \
  extern "C" __global__ void __launch_bounds__(FusedConv1BlockTile::THREADS, 1) \
      NAME(const __grid_constant__ FusedConv1BlockParams p) {                   \
    fused_conv1_block<T>(p, #NAME);                                             \
  }
#include "kernels/sm90/fused_conv1_block.def"

}  // namespace vgg::sm90
