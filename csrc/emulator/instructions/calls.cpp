// call: of vprintf alone, to which nvcc translates printf.

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "emulator/decode/decode.h"
#include "emulator/instructions/instructions.h"
#include "emulator/instructions/memory_access.h"
#include "emulator/run/block.h"

namespace vgg::emulator {
namespace {

// One thread's call of vprintf(format, arguments). The arguments lie in local memory, each at a
// multiple of its size.
class Printf {
 public:
  Printf(Warp& warp, const Instruction& in, int lane, uint64_t arguments)
      : warp_(warp), in_(in), lane_(lane), arguments_(arguments) {}

  std::string text(uint64_t format_address) {
    const std::string format = read_string(format_address);
    std::string text;
    for (size_t at = 0; at < format.size();) {
      const size_t percent = std::min(format.find('%', at), format.size());
      text += format.substr(at, percent - at);
      if (percent == format.size()) break;
      const size_t end = std::min(format.find_first_not_of("-+ #0123456789.hljzt", percent + 1),
                                  format.size() - 1);
      text += conversion(format.substr(percent, end + 1 - percent));
      at = end + 1;
    }
    return text;
  }
  uint32_t count() const { return count_; }  // of converted arguments

 private:
  // The text of "%-8llu", for example.
  std::string conversion(const std::string& whole) {
    if (whole == "%%") return "%";
    const char kind = whole.back();
    const size_t begin = std::min(whole.find_first_of("hljzt"), whole.size() - 1);
    const std::string size = whole.substr(begin, whole.size() - 1 - begin);
    const std::string flags = whole.substr(0, begin);
    static const std::vector<std::string> SIZES = {"", "h", "hh", "l", "ll", "j", "z", "t"};
    const bool known = std::find(SIZES.begin(), SIZES.end(), size) != SIZES.end();
    if (!known || kind == '\0' || !std::strchr("diouxXcfFeEgGaAsp", kind)) {
      fail(warp_, in_, lane_, "prints with '" + whole + "', which is not modelled");
    }
    ++count_;
    if (kind == 's') {
      const auto address = take<uint64_t>();
      return formatted(flags + 's', address == 0 ? "(null)" : read_string(address).c_str());
    }
    if (kind == 'p') return formatted(flags + "#llx", take<unsigned long long>());
    if (std::strchr("fFeEgGaA", kind)) return formatted(flags + kind, take<double>());
    const bool is_long = size != "" && size[0] != 'h';
    const uint64_t bits = is_long ? take<uint64_t>() : take<uint32_t>();
    if (kind == 'c') return formatted(flags + 'c', static_cast<int>(bits));
    const std::string format = flags + "ll" + kind;
    const int unused = 8 * (8 - (is_long ? 8 : size == "hh" ? 1 : size == "h" ? 2 : 4));
    if (kind == 'd' || kind == 'i') {
      return formatted(format, static_cast<long long>(bits << unused) >> unused);
    }
    return formatted(format, static_cast<unsigned long long>(bits << unused) >> unused);
  }

  template <class T>
  static std::string formatted(const std::string& format, T value) {
    const int bytes = std::snprintf(nullptr, 0, format.c_str(), value);
    std::string text(std::max(bytes, 0) + 1, '\0');
    std::snprintf(text.data(), text.size(), format.c_str(), value);
    text.pop_back();
    return text;
  }

  template <class T>
  T take() {
    offset_ = (offset_ + sizeof(T) - 1) / sizeof(T) * sizeof(T);
    uint64_t address;
    const Space space = space_of(warp_, arguments_, address);
    const uint64_t begin = address - LOCAL_BASE + offset_;
    const uint64_t size = warp_.block->kernel().local_bytes;
    if (space != Space::local || begin > size || begin + sizeof(T) > size) {
      fail(warp_, in_, lane_, "prints an argument that is not in its local memory");
    }
    T value;
    std::memcpy(&value, warp_.block->local(warp_, lane_) + begin, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  std::string read_string(uint64_t address) {
    std::string text;
    for (;; ++address) {
      uint64_t place;
      if (space_of(warp_, address, place) != Space::global) {
        fail(warp_, in_, lane_, "prints a string that is not in global memory");
      }
      Block& block = *warp_.block;
      block.global().check_read_one(warp_, in_, lane_, place, 1, block.number());
      const char c = *reinterpret_cast<const char*>(place);
      if (c == '\0') return text;
      text += c;
    }
  }

  Warp& warp_;
  const Instruction& in_;
  int lane_;
  uint64_t arguments_, offset_ = 0;
  uint32_t count_ = 0;
};

// Operands: the addresses of the result, the format and the arguments.
void print(Warp& warp, const Instruction& in, uint32_t active) {
  auto parameter = [&](int lane, int i) {
    return warp.block->local(warp, lane) + (*warp.lanes<uint32_t>(in.operands[i]) - LOCAL_BASE);
  };
  for_each_lane(active, [&](int lane) {
    uint64_t format, arguments;
    std::memcpy(&format, parameter(lane, 1), sizeof(format));
    std::memcpy(&arguments, parameter(lane, 2), sizeof(arguments));
    Printf printf(warp, in, lane, arguments);
    warp.block->printed().append(printf.text(format));
    const uint32_t count = printf.count();
    std::memcpy(parameter(lane, 0), &count, sizeof(count));
  });
}

void decode_call(Decoder& decoder, const PtxInstruction& from,
                 const std::vector<std::string>& modifiers, Instruction& to) {
  const auto& parts = from.operands;
  const bool known = modifiers.empty() || modifiers == std::vector<std::string>{"uni"};
  if (!known || parts.size() != 3 || parts[1].name != "vprintf" || parts[0].parts.size() != 1 ||
      parts[2].parts.size() != 2) {
    decoder.fail(
        "calls are not modelled, except of printf (assert, or a function that is not inlined?)");
  }
  for (const PtxOperand& name : {parts[0].parts[0], parts[2].parts[0], parts[2].parts[1]}) {
    if (!decoder.is_local(name)) decoder.fail("expected a call's parameter, got " + name.name);
    decoder.read(name, WORD);
  }
  to.handler = print;
}

}  // namespace

void add_calls(InstructionTable& table) { table.add_family("call", decode_call); }

}  // namespace vgg::emulator
