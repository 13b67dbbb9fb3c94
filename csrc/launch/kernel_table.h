// Every kernel of the build, by the name of its entry.

#pragma once

#include <string>
#include <vector>

namespace vgg {

std::vector<std::string> kernel_names();

}  // namespace vgg
