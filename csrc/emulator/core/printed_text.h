// Text that the kernels of a launch print with printf.

#pragma once

#include <mutex>
#include <string>

namespace vgg::emulator {

// Thread-safe.
class PrintedText {
 public:
  static constexpr size_t MAX_BYTES = size_t{1} << 20;  // as of CUDA's buffer, by default

  // Drops text that does not fit.
  void append(const std::string& text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (text_.size() + text.size() <= MAX_BYTES) text_ += text;
  }
  const std::string& text() const { return text_; }  // after the launch

 private:
  std::mutex mutex_;
  std::string text_;
};

}  // namespace vgg::emulator
