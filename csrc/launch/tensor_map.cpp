#include "launch/tensor_map.h"

#include <cstring>
#include <stdexcept>

namespace vgg {
namespace {

constexpr uint64_t MAGIC = 0x70616d2d67677676;

struct Encoded {
  uint64_t magic;
  TensorMap::Type type;
  uint8_t rank, swizzle, promotion, fill, im2col;
  uint16_t channels_per_pixel, pixels_per_column;
  uint64_t address;
  uint64_t strides[MAX_DIMENSIONS - 1];
  uint32_t last[MAX_DIMENSIONS];  // last coordinates, since dims may be 2^32
  uint16_t box[MAX_DIMENSIONS];
  uint8_t element_strides[MAX_DIMENSIONS];
  int16_t lower_corner[3], upper_corner[3];
};
static_assert(sizeof(Encoded) <= sizeof(TensorMapBytes), "a tensor map has 128 bytes");

[[noreturn]] void refuse(const std::string& what, const std::string& expected, int64_t got) {
  throw std::invalid_argument("tensor map: " + what + ": expected " + expected + ", got " +
                              std::to_string(got));
}

void check_range(const std::string& what, int64_t value, int64_t first, int64_t last) {
  if (value >= first && value <= last) return;
  refuse(what, std::to_string(first) + " to " + std::to_string(last), value);
}

std::string of(const char* what, int dimension) {
  return std::string(what) + '[' + std::to_string(dimension) + ']';
}

bool is_float(TensorMap::Type type) {
  using Type = TensorMap::Type;
  return type == Type::float16 || type == Type::float32 || type == Type::float64 ||
         type == Type::bfloat16;
}

void check_im2col(const TensorMap& map) {
  // Range of the corners, by number of spatial dimensions.
  static constexpr int FIRST[] = {-32768, -128, -16}, LAST[] = {32767, 127, 15};
  const int spatial = map.rank - 2;
  check_range("rank", map.rank, 3, MAX_DIMENSIONS);
  for (int i = 0; i < spatial; ++i) {
    check_range(of("lower_corner", i), map.lower_corner[i], FIRST[spatial - 1], LAST[spatial - 1]);
    check_range(of("upper_corner", i), map.upper_corner[i], FIRST[spatial - 1], LAST[spatial - 1]);
    const auto dim = static_cast<int64_t>(map.dims[i + 1]);
    if (map.lower_corner[i] > dim - 1 + map.upper_corner[i]) {
      refuse(of("upper_corner", i), "a non-empty box of pixels", map.upper_corner[i]);
    }
  }
  check_range("channels_per_pixel", map.channels_per_pixel, 1, 256);
  check_range("pixels_per_column", map.pixels_per_column, 1, 1024);
}

}  // namespace

int TensorMap::element_bytes() const {
  static constexpr int BYTES[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2};
  return BYTES[static_cast<int>(type)];
}

uint32_t TensorMap::rows() const {
  if (im2col) return pixels_per_column;
  uint32_t count = 1;
  for (int i = 1; i < rank; ++i) count *= (box[i] + element_strides[i] - 1) / element_strides[i];
  return count;
}

std::string describe(const TensorMap& map) {
  const auto list = [&](const auto* values, int first, const char* between) {
    std::string text;
    for (int i = first; i < map.rank; ++i) {
      text += (i == first ? "" : between) + std::to_string(values[i]);
    }
    return text;
  };
  const std::string text =
      "dims " + list(map.dims, 0, " x ") + ", strides " + list(map.strides, 1, ", ") + " bytes";
  return map.im2col ? text + ", im2col" : text + ", box " + list(map.box, 0, " x ");
}

void check(const TensorMap& map) {
  check_range("rank", map.rank, 1, MAX_DIMENSIONS);
  if (map.address == 0 || map.address % 16 != 0) {
    refuse("address", "a multiple of 16", static_cast<int64_t>(map.address));
  }
  for (int i = 0; i < map.rank; ++i) {
    check_range(of("dims", i), static_cast<int64_t>(map.dims[i]), 1, int64_t{1} << 32);
    check_range(of("element_strides", i), map.element_strides[i], 1, 8);
    if (i == 0) continue;
    if (map.strides[i] == 0 || map.strides[i] % 16 != 0 || map.strides[i] >= uint64_t{1} << 40) {
      refuse(of("strides", i), "a multiple of 16 bytes below 2^40",
             static_cast<int64_t>(map.strides[i]));
    }
  }
  if (map.im2col) {
    check_im2col(map);
  } else {
    for (int i = 0; i < map.rank; ++i) check_range(of("box", i), map.box[i], 1, 256);
  }
  const auto inner = static_cast<int64_t>(map.row_bytes());
  if (inner % 16 != 0) refuse("inner bytes of the box", "a multiple of 16", inner);
  if (map.swizzle_bytes() != 0 && inner > map.swizzle_bytes()) {
    refuse("inner bytes of the box",
           "at most the " + std::to_string(map.swizzle_bytes()) + " of the swizzle", inner);
  }
  if (map.fill == TensorMap::Fill::nan && !is_float(map.type)) {
    throw std::invalid_argument("tensor map: fill: expected zero for integer types, got nan");
  }
}

TensorMapBytes encode_for_emulator(const TensorMap& map) {
  check(map);
  Encoded to{};
  to.magic = MAGIC;
  to.type = map.type;
  to.rank = static_cast<uint8_t>(map.rank);
  to.swizzle = static_cast<uint8_t>(map.swizzle);
  to.promotion = static_cast<uint8_t>(map.promotion);
  to.fill = static_cast<uint8_t>(map.fill);
  to.im2col = map.im2col;
  to.channels_per_pixel = static_cast<uint16_t>(map.channels_per_pixel);
  to.pixels_per_column = static_cast<uint16_t>(map.pixels_per_column);
  to.address = map.address;
  for (int i = 0; i < map.rank; ++i) {
    if (i > 0) to.strides[i - 1] = map.strides[i];
    to.last[i] = static_cast<uint32_t>(map.dims[i] - 1);
    to.box[i] = static_cast<uint16_t>(map.box[i]);
    to.element_strides[i] = static_cast<uint8_t>(map.element_strides[i]);
  }
  for (int i = 0; i < 3; ++i) {
    to.lower_corner[i] = static_cast<int16_t>(map.lower_corner[i]);
    to.upper_corner[i] = static_cast<int16_t>(map.upper_corner[i]);
  }
  TensorMapBytes bytes{};
  std::memcpy(&bytes, &to, sizeof(to));
  return bytes;
}

bool decode_for_emulator(const void* bytes, TensorMap& map) {
  Encoded from;
  std::memcpy(&from, bytes, sizeof(from));
  if (from.magic != MAGIC) return false;
  map = TensorMap();
  map.type = from.type;
  map.rank = from.rank;
  map.swizzle = static_cast<TensorMap::Swizzle>(from.swizzle);
  map.promotion = static_cast<TensorMap::Promotion>(from.promotion);
  map.fill = static_cast<TensorMap::Fill>(from.fill);
  map.im2col = from.im2col != 0;
  map.channels_per_pixel = from.channels_per_pixel;
  map.pixels_per_column = from.pixels_per_column;
  map.address = from.address;
  for (int i = 0; i < map.rank; ++i) {
    map.strides[i] = i > 0 ? from.strides[i - 1] : static_cast<uint64_t>(map.element_bytes());
    map.dims[i] = uint64_t{from.last[i]} + 1;
    map.box[i] = from.box[i];
    map.element_strides[i] = from.element_strides[i];
  }
  for (int i = 0; i < 3; ++i) {
    map.lower_corner[i] = from.lower_corner[i];
    map.upper_corner[i] = from.upper_corner[i];
  }
  return true;
}

}  // namespace vgg
