// Special registers such as %tid.x, which the block fills in when it starts.

#include <cstring>

#include "emulator/decode/decode.h"

namespace vgg::emulator {
namespace {

const std::unordered_map<std::string, Special>& special_registers() {
  static const std::unordered_map<std::string, Special> names = {
      {"%tid.x", Special::tid_x},
      {"%tid.y", Special::tid_y},
      {"%tid.z", Special::tid_z},
      {"%ctaid.x", Special::ctaid_x},
      {"%ctaid.y", Special::ctaid_y},
      {"%ctaid.z", Special::ctaid_z},
      {"%ntid.x", Special::ntid_x},
      {"%ntid.y", Special::ntid_y},
      {"%ntid.z", Special::ntid_z},
      {"%nctaid.x", Special::nctaid_x},
      {"%nctaid.y", Special::nctaid_y},
      {"%nctaid.z", Special::nctaid_z},
      {"%warpid", Special::warpid},
      {"%nwarpid", Special::nwarpid},
      {"%cluster_ctaid.x", Special::cluster_ctaid_x},
      {"%cluster_ctaid.y", Special::cluster_ctaid_y},
      {"%cluster_ctaid.z", Special::cluster_ctaid_z},
      {"%cluster_nctaid.x", Special::cluster_nctaid_x},
      {"%cluster_nctaid.y", Special::cluster_nctaid_y},
      {"%cluster_nctaid.z", Special::cluster_nctaid_z},
      {"%clusterid.x", Special::clusterid_x},
      {"%clusterid.y", Special::clusterid_y},
      {"%clusterid.z", Special::clusterid_z},
      {"%nclusterid.x", Special::nclusterid_x},
      {"%nclusterid.y", Special::nclusterid_y},
      {"%nclusterid.z", Special::nclusterid_z},
      {"%cluster_ctarank", Special::cluster_ctarank},
      {"%cluster_nctarank", Special::cluster_nctarank}};
  return names;
}

// Computes %laneid and %lanemask_*, which are the same in every warp. Returns false for other
// names.
bool lane_register(const std::string& name, uint32_t lane, uint32_t& value) {
  const uint32_t bit = 1u << lane;
  if (name == "%laneid") {
    value = lane;
  } else if (name == "%lanemask_eq") {
    value = bit;
  } else if (name == "%lanemask_lt") {
    value = bit - 1;
  } else if (name == "%lanemask_le") {
    value = bit | (bit - 1);
  } else if (name == "%lanemask_gt") {
    value = ~(bit | (bit - 1));
  } else if (name == "%lanemask_ge") {
    value = ~(bit - 1);
  } else {
    return false;
  }
  return true;
}

}  // namespace

bool Decoder::special(const std::string& name, char letter, Operand& place) {
  if (name[0] != '%') {
    if (name != "WARP_SZ") return false;
    place = constant(LANES, letter);
    return true;
  }
  if (letter != WORD && letter != HALF) return false;
  uint32_t value;
  if (lane_register(name, 0, value)) {
    const Operand first = kernel_.constants.size() * sizeof(Line);
    const auto inserted = constant_index_.emplace(name, first | CONSTANT_OPERAND);
    place = inserted.first->second;
    if (!inserted.second) return true;
    kernel_.constants.resize(kernel_.constants.size() + 2);
    auto* lanes = kernel_.constants.data() + first / sizeof(Line);
    for (int lane = 0; lane < LANES; ++lane) {
      lane_register(name, lane, value);
      std::memcpy(&lanes[lane / 16].bytes[lane % 16 * 4], &value, 4);
    }
    return true;
  }
  const auto found = special_registers().find(name);
  if (found == special_registers().end()) return false;
  const auto inserted = special_index_.emplace(static_cast<int>(found->second), pinned_bytes_);
  place = inserted.first->second;
  if (inserted.second) {
    kernel_.specials.emplace_back(found->second, place);
    pinned_bytes_ += LANES * 4;
  }
  return true;
}

}  // namespace vgg::emulator
