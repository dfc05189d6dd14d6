// The launchers of the GPU kernels: one function an op of kernels/ops.h, device pointers throughout. Each
// queues its kernels on context.stream and returns. Shapes, formulas and numerics are those of ops.h; host
// pointers in the op structs (ids, rows, spans, pages) are not read: the launcher takes device copies instead
// (context.batch for spans and pages).
#pragma once

#include <span>

#include "kernels/gpu/context.h"

namespace dw::gpu {

// Bytes of one row of a matrix in the layout of weights.h; a multiple of 16.
uint64_t device_row_bytes(quant::Type type, int64_t columns);
// Rewrites `rows` rows from the file's layout (device memory) into the device's.
void repack(Context& context, quant::Type type, int64_t columns, int64_t rows, const std::byte* file_rows,
            std::byte* device_rows);

// ids: device, [op.tokens].
void embed(Context& context, const ops::Embed& op, const int32_t* ids);
// rows: device, [op.out.tokens], or nullptr.
void norm(Context& context, const ops::Norm& op, const int32_t* rows);
void pack(Context& context, const float* rows, const ops::Activations& out);

// Any number of tokens, any type; picks the kernel (launchers in linear.cu). norm != nullptr: x is not yet
// computed; it is norm->out, and the launcher either fuses the norm or runs it first (norm->rows must be
// nullptr then).
void linear(Context& context, const ops::Activations& x, std::span<const ops::Linear> outputs,
            const ops::Norm* norm);

void delta_mixer(Context& context, const ops::DeltaMixer& op);
uint64_t delta_scratch_bytes(const ops::DeltaMixer& largest);

void attention(Context& context, const ops::Attention& op);
uint64_t attention_scratch_bytes(const ops::Attention& largest, const Limits& limits);

// For every row of logits [rows, vocabulary] the k likeliest tokens, k <= 256: ids and logits [rows, k], the
// likeliest first, equal logits by rising id (Sampler's order); and [rows, 2] the row's largest logit and the
// sum of e^(logit - largest). All pointers: device. k = 1: greedy.
void top_logits(Context& context, const float* logits, int64_t rows, int64_t vocabulary, int32_t k,
                int32_t* ids, float* values, float* max_and_sum);
uint64_t top_logits_scratch_bytes(int64_t rows, int64_t vocabulary);

// norm as for linear().
void moe(Context& context, const ops::Moe& op, const ops::Norm* norm);
uint64_t moe_scratch_bytes(const ops::Moe& largest);

// Reads bytes (a multiple of 16) and keeps nothing; sink: one word that is never written in practice.
void read_memory(Context& context, const std::byte* data, uint64_t bytes, uint32_t* sink);

}  // namespace dw::gpu
