#include "launch/kernel_table.h"

namespace vgg {

std::vector<std::string> kernel_names() {
  return {
#define KERNEL(NAME, PARAMS) #NAME,
#include "kernels/kernels.def"
#undef KERNEL
  };
}

}  // namespace vgg
