#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#include "emulator/emulator.h"
#include "emulator/run/block.h"
#include "emulator/run/cluster.h"

namespace vgg::emulator {
namespace {

// Runs all clusters on several CPU threads. Clusters start in order, and every started cluster is
// finished, so that the reported error is always that of the first cluster that fails.
class Workers {
 public:
  Workers(const LaunchState& launch, std::atomic<bool>& stopped)
      : launch_(launch),
        stopped_(stopped),
        clusters_(uint64_t{launch.grid.x / launch.cluster.x} * (launch.grid.y / launch.cluster.y) *
                  (launch.grid.z / launch.cluster.z)),
        failed_(clusters_) {}

  Counters run() {
    const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    const unsigned wanted = launch_.options.workers > 0 ? launch_.options.workers : cores;
    start(static_cast<unsigned>(std::min<uint64_t>({wanted, MAX_WORKERS, clusters_})));
    if (threads_.empty()) {
      ++working_;
      work();  // the system has no threads left: run in this one
    }
    wait();
    for (std::thread& thread : threads_) thread.join();
    if (stopped_) throw Interrupted("kernel " + launch_.kernel.name + ": interrupted");
    if (error_) std::rethrow_exception(error_);
    return counters_;
  }

 private:
  static constexpr unsigned MAX_WORKERS = 256;

  void start(unsigned count) {
    threads_.reserve(count);
    try {
      for (unsigned i = 0; i < count; ++i) {
        threads_.emplace_back([this] { work(); });
        const std::lock_guard<std::mutex> lock(mutex_);
        ++working_;
      }
    } catch (const std::system_error&) {  // the system has no more threads: use those started
    }
  }

  // Waits until all threads have finished, and polls Options::interrupted.
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (working_ > 0) {
      done_.wait_for(lock, std::chrono::milliseconds(100));
      if (working_ == 0 || !launch_.options.interrupted) continue;
      lock.unlock();
      if (launch_.options.interrupted()) stopped_ = true;
      lock.lock();
    }
  }

  void work() {
    uint64_t number = 0;
    std::exception_ptr error;
    Counters counters;
    try {
      Cluster cluster(launch_);
      for (;;) {
        number = next_++;
        if (number >= failed_.load()) break;
        const bool reversed = launch_.options.schedule == Schedule::reverse;
        if (!cluster.run(reversed ? clusters_ - 1 - number : number)) break;
      }
      counters = cluster.counters();
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    counters_ += counters;
    if (error && (!error_ || number < failed_.load())) {
      failed_ = number;
      error_ = error;
    }
    --working_;
    done_.notify_all();
  }

  const LaunchState& launch_;
  std::atomic<bool>& stopped_;
  const uint64_t clusters_;
  std::atomic<uint64_t> next_{0}, failed_;  // clusters from failed_ on are not started
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable done_;
  int working_ = 0;
  Counters counters_;
  std::exception_ptr error_;
};

}  // namespace

constexpr uint64_t MAX_SHARED_BYTES = 227 * 1024;  // per block, on sm_90 and sm_100

Counters launch(const Kernel& kernel, Dim3 grid, Dim3 block, int smem_bytes, const void* params,
                size_t params_bytes, const std::vector<Buffer>& buffers, const Options& options,
                Dim3 cluster, bool early) {
  auto check = [&](bool ok, const std::string& what) {
    if (!ok) throw Error("kernel " + kernel.name + ": launch with " + what);
  };
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  check(threads > 0 && threads <= 1024, std::to_string(threads) + " threads in a block");
  check(grid.x > 0 && grid.y > 0 && grid.z > 0, "an empty grid");
  const Dim3& own = kernel.cluster;
  if (own.x * own.y * own.z > 0) {
    check(cluster.x * cluster.y * cluster.z == 1 ||
              (cluster.x == own.x && cluster.y == own.y && cluster.z == own.z),
          "a cluster size that differs from its .reqnctapercluster");
    cluster = own;
  }
  const uint64_t cluster_blocks = uint64_t{cluster.x} * cluster.y * cluster.z;
  check(cluster_blocks > 0 && cluster_blocks <= MAX_CLUSTER_BLOCKS,
        "clusters of " + std::to_string(cluster_blocks) + " blocks");
  check(grid.x % cluster.x == 0 && grid.y % cluster.y == 0 && grid.z % cluster.z == 0,
        "a grid that is not a multiple of the cluster size");
  check(params_bytes == kernel.param_bytes, std::to_string(params_bytes) +
                                                " bytes of parameters, but it has " +
                                                std::to_string(kernel.param_bytes));
  check(smem_bytes >= 0, "negative dynamic shared memory");
  check(kernel.shared_bytes + uint64_t(smem_bytes) <= MAX_SHARED_BYTES,
        std::to_string(kernel.shared_bytes + uint64_t(smem_bytes)) +
            " bytes of shared memory, more than the largest GPU has: " +
            std::to_string(MAX_SHARED_BYTES));
  check(smem_bytes == 0 || kernel.has_dynamic_shared,
        "dynamic shared memory, which the kernel does not declare");

  std::vector<Buffer> all = buffers;
  all.insert(all.end(), kernel.variables.begin(), kernel.variables.end());
  std::vector<Line> param_copy(kernel.param_bytes / sizeof(Line) + 1);
  if (params_bytes > 0) std::memcpy(param_copy.data(), params, params_bytes);
  GlobalMemory global(all, kernel.global_granularity, options.races);
  std::atomic<bool> stopped{false};
  PrintedText printed;
  const LaunchState state{kernel,
                          grid,
                          block,
                          cluster,
                          kernel.shared_bytes + static_cast<uint32_t>(smem_bytes),
                          reinterpret_cast<const char*>(param_copy.data()),
                          options,
                          global,
                          printed,
                          stopped,
                          early};
  try {
    const Counters counters = Workers(state, stopped).run();
    global.check_all_written(kernel.name);
    std::fputs(printed.text().c_str(), stdout);
    std::fflush(stdout);
    return counters;
  } catch (const Error& error) {
    if (printed.text().empty()) throw;
    throw Error(error.what() + ("\nprinted by the kernel:\n" + printed.text()));
  }
}

}  // namespace vgg::emulator
