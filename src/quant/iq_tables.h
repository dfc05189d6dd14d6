// The constant tables of the IQ and MXFP4 formats, for the scalar code here and the kernels of every device.
// A grid entry is a word whose byte i (from the lowest) is element i: magnitudes in the IQ2 and IQ3 grids,
// -1, 0 or 1 (int8) in the IQ1 grid. iq_tables.cpp is generated from the `gguf` Python package.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace dw::quant {

extern const std::array<uint64_t, 256> kIq2xxsGrid;
extern const std::array<uint64_t, 512> kIq2xsGrid;
extern const std::array<uint64_t, 1024> kIq2sGrid;
extern const std::array<uint32_t, 256> kIq3xxsGrid;
extern const std::array<uint32_t, 512> kIq3sGrid;
extern const std::array<uint64_t, 2048> kIq1Grid;  // IQ1_S and IQ1_M

// 7 stored sign bits -> 8 (bit set: negative): the last makes the number of minus signs even.
extern const std::array<uint8_t, 128> kIqSigns;

extern const std::array<int8_t, 16> kIq4NlValues;  // IQ4_NL, IQ4_XS
extern const std::array<int8_t, 16> kMxfp4Values;  // E2M1, doubled

inline constexpr float kIq1Delta = 0.125f;

}  // namespace dw::quant
