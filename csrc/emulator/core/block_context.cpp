#include "emulator/core/block_context.h"

namespace vgg::emulator {

Dim3 index_in_cluster(const Dim3& cluster, int rank) {
  const auto i = static_cast<uint32_t>(rank);
  return {i % cluster.x, i / cluster.x % cluster.y, i / cluster.x / cluster.y};
}

std::string BlockContext::name_of(int other_rank) const {
  const Dim3 own = index_in_cluster(cluster, rank), other = index_in_cluster(cluster, other_rank);
  return "block (" + std::to_string(index.x - own.x + other.x) + ',' +
         std::to_string(index.y - own.y + other.y) + ',' +
         std::to_string(index.z - own.z + other.z) + ')';
}

}  // namespace vgg::emulator
