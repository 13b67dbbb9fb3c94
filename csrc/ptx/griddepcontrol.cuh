// Launches that begin before the previous launch has ended (Launch::early).
//
// Their kernels let the next launch begin as soon as all of their blocks run, load weights, and
// wait before any other access.
//
// - After the wait, all earlier launches are complete, not only the previous one: the previous
//   launch has ended, so all its blocks have waited for their predecessor, and so on. Memory that a
//   forward uses for several arrays in turn may therefore be overwritten.
// - Only the thread of a block that loads activations waits. All results depend on its loads, so
//   that no thread writes earlier.
// - Weights and biases are read before the wait. Their producer has ended: the first launch of a
//   forward does not begin early (CudaExecutor), so all work before the forward has ended and is
//   visible, and each later launch begins after its predecessor has begun.

#pragma once

namespace vgg::ptx {

// PTX ISA, 9.7.13.13: griddepcontrol. Waits until earlier launches have ended and their writes are
// visible.
__device__ __forceinline__ void griddepcontrol_wait() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

// PTX ISA, 9.7.13.13: griddepcontrol. Lets the next launch begin once all blocks of this launch
// have called this function or ended.
__device__ __forceinline__ void griddepcontrol_launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

}  // namespace vgg::ptx
