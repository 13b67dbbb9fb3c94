// Names of all kernels of the build.

#pragma once

#include <string>
#include <vector>

namespace vgg {

std::vector<std::string> kernel_names();

}  // namespace vgg
