// How the GPU kernels see a quantised weight matrix. A row is cut into chunks of 32 weights; a chunk decodes
// to int8 quants and a scale and offset for each half of 16:
//   w[i] = scale[i / 16] * q[i] + offset[i / 16]
// so that an integer dot product with activations quantised in groups of 32 (ops::Activations: x = d * a, s =
// sum of a over 16) is d * sum over halves of (scale * dot(q, a) + offset * s). The product is exact to fp32
// rounding: q may carry a power of two that scale makes good for (16 (q - 8) of Q4_0 is its nibble in the
// high half of a byte, sign bit flipped).
//
// The device's layout of a row is planes: what chunks read with one load lies together, chunk after chunk,
// planes of wide loads first, so that each load is aligned; a row is rounded up to 16 bytes (row_bytes()).
// Nothing is re-rounded: repack() moves bits. kernels/gpu_weights_test checks every type on the host.
//
// Weights<type> is the trait of a type:
//   kTwoScales        the halves differ in scale or offset (else index 0 stands for both)
//   kOffset           offset is not zero
//   kFine             quants as fine as the int8 activations: products add a second int8 plane, the residual
//                     of the activations
//   Raw, fetch()      the bytes of one chunk in registers (loads only, so that several can be in flight)
//   decode()          Raw -> Chunk
//   row_bytes(columns), repack(file row, device row, columns, chunk): one thread a chunk; columns % 32 == 0
//                     (% 256 for the types of 256-element blocks)
// F32, F16 and BF16 have no such trait: FloatWeights<type> gives their values.
#pragma once

#include "kernels/gpu/weights_float.h"
#include "kernels/gpu/weights_iq.h"
#include "kernels/gpu/weights_k.h"
#include "kernels/gpu/weights_simple.h"
