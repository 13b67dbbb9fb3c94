// Launches that begin before the launch before them has ended (Launch::early).
//
// Their kernels let the next launch begin as soon as all of their blocks run, load weights, and
// wait before they touch anything else.
//
// - After the wait everything before is complete, not only the launch directly before: that one has
//   ended, all of its blocks have waited, too, and so on. Memory that a planned forward uses for
//   one array after the other may be overwritten.
// - One thread of a block waits, the one that loads activations. Results are sums of what it loads,
//   so that no thread writes any earlier.
// - Weights and biases are read before the wait. Who made them has ended: the first launch of a
//   forward does not begin early (CudaExecutor), but when everything before the forward has ended
//   and can be read; and each of the others begins after the one before it has begun.

#pragma once

namespace vgg::ptx {

// PTX ISA, 9.7.13.13: griddepcontrol. Waits until the launches before this one have ended, and what
// they wrote can be read.
__device__ __forceinline__ void griddepcontrol_wait() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

// The launch behind this one may begin when all blocks of this one have said so, or ended.
__device__ __forceinline__ void griddepcontrol_launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

}  // namespace vgg::ptx
