#include "plan/one_launch.h"

#include <stdexcept>
#include <utility>

namespace vgg {

int64_t checked_product(const char* op, const std::vector<Factor>& factors, int64_t limit,
                        const char* why) {
  int64_t product = 1;
  bool fits = true;
  for (const Factor& factor : factors) {
    fits = fits && product <= limit / factor.value;
    if (fits) product *= factor.value;
  }
  if (fits) return product;
  std::string expression, values;
  for (const Factor& factor : factors) {
    expression += (expression.empty() ? "" : "*") + factor.name;
    values += (values.empty() ? "" : ", ") + factor.name + " = " + std::to_string(factor.value);
  }
  throw std::invalid_argument(std::string(op) + ": expected " + expression +
                              " <= " + std::to_string(limit) + " (" + why + "), got " + values);
}

Plan one_launch(const char* op, const ArchSpec& arch, std::string kernel, int64_t blocks,
                int threads, int64_t x_bytes, int64_t y_bytes) {
  Plan plan;
  plan.op = op;
  plan.arch = arch.name;
  plan.tiles = blocks;
  plan.load_bytes = x_bytes;
  plan.store_bytes = y_bytes;
  Launch launch;
  launch.kernel = std::move(kernel);
  launch.grid.x = static_cast<uint32_t>(blocks);
  launch.block.x = static_cast<uint32_t>(threads);
  plan.launches.push_back(std::move(launch));
  return plan;
}

int pack_size(DType dtype, int64_t length, bool aligned) {
  const int vector = static_cast<int>(16 / size_bytes(dtype));
  return aligned && length % vector == 0 ? vector : 1;
}

std::string kernel_name(const char* op, DType dtype, int size) {
  return std::string(op) + "_" + short_name(dtype) + "_v" + std::to_string(size);
}

}  // namespace vgg
