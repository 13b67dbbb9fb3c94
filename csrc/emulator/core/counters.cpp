#include "emulator/types.h"

namespace vgg::emulator {
namespace {

// Calls f(name, counter) for every counter.
template <class C, class F>
void for_each_counter(C& counters, F f) {
  f("instructions", counters.instructions);
  f("mma", counters.mma);
  f("mma_macs", counters.mma_macs);
  f("wgmma", counters.wgmma);
  f("wgmma_macs", counters.wgmma_macs);
  f("wgmma_shared_bytes", counters.wgmma_shared_bytes);
  f("fma", counters.fma);
  f("ldmatrix", counters.ldmatrix);
  f("stmatrix", counters.stmatrix);
  f("shared_wavefronts", counters.shared_wavefronts);
  f("shared_ideal", counters.shared_ideal);
  f("cp_async", counters.cp_async);
  f("cp_async_bytes", counters.cp_async_bytes);
  f("bulk_copies", counters.bulk_copies);
  f("bulk_load_bytes", counters.bulk_load_bytes);
  f("bulk_zero_bytes", counters.bulk_zero_bytes);
  f("bulk_shared_bytes", counters.bulk_shared_bytes);
  f("bulk_store_bytes", counters.bulk_store_bytes);
  f("load_bytes", counters.load_bytes);
  f("store_bytes", counters.store_bytes);
  f("load_sectors", counters.load_sectors);
  f("store_sectors", counters.store_sectors);
  f("barriers", counters.barriers);
  f("shuffles", counters.shuffles);
  f("atomics", counters.atomics);
}

}  // namespace

std::vector<std::pair<const char*, uint64_t>> Counters::items() const {
  std::vector<std::pair<const char*, uint64_t>> items;
  for_each_counter(*this,
                   [&](const char* name, uint64_t value) { items.emplace_back(name, value); });
  return items;
}

Counters& Counters::operator+=(const Counters& other) {
  const auto items = other.items();
  size_t i = 0;
  for_each_counter(*this, [&](const char*, uint64_t& value) { value += items[i++].second; });
  return *this;
}

}  // namespace vgg::emulator
