// The reference implementation of every op: plain loops, fp32 values with fp64 sums, weights dequantised one
// row at a time. It is the oracle of every other implementation; it is written to be read, not to be fast.
// With DeltaMixer::chunk == 0 the delta rule runs token by token; otherwise in chunks (WY form, Yang et al.
// 2024, arXiv 2412.06464, with decay differences e^{G_i - G_j} and never e^{G_i} e^{-G_j}). The quantised
// part of output Activations is written with the formula given in ops.h.
#pragma once

#include "kernels/ops.h"

namespace dw::reference {

void quantize(const ops::Activations& x);  // fills quants, scales, sums from values
void embed(const ops::Embed& op);
void norm(const ops::Norm& op);
void linear(const ops::Activations& x, std::span<const ops::Linear> outputs);  // uses x.values
void delta_mixer(const ops::DeltaMixer& op);
void attention(const ops::Attention& op);
void moe(const ops::Moe& op);  // uses x.values

}  // namespace dw::reference
