// SPDX-License-Identifier: Apache-2.0
//
// What schemes take where a model will be used, in a model folder or in a
// device package, before anything is run.

#ifndef QEFF_PIPELINE_SCHEME_SIZES_H_
#define QEFF_PIPELINE_SCHEME_SIZES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace qeff {

struct SchemeSize {
  std::string scheme;
  uint64_t bytes = 0;          // of all weights, or of the package
  double bits_per_weight = 0;  // of the blocks' layers
  int bits = 0;                // of a code

  // In a package that leaves zeros out, of all layers: a bit of a mask, and
  // what lies beside masks and values (qeff/kernels/matmul_int/README.md).
  double mask_bits = 1;

  // Bits a weight of the blocks' layers in such a package when `share` of the
  // codes is 0, and when two of each four are; about.
  double SparseBits(double share) const {
    return bits_per_weight + mask_bits - share * bits;
  }
  double TwoOfFourBits() const { return bits_per_weight + 1 - 0.5 * bits; }
};

struct SchemeSizes {
  std::vector<SchemeSize> schemes;  // by bytes
  uint64_t model_bytes = 0;         // of the weights of the model as it is
  double weights = 0;               // of the blocks' layers

  // nullptr when it is not among them.
  const SchemeSize* Find(const std::string& scheme) const;

  // Bits a weight that are left for the blocks' layers of `bytes` in all; below
  // 0 when the rest takes more. Precondition: there are schemes.
  double BitsWithin(uint64_t bytes) const;
};

// Of a folder of floats, in the folder that quantize writes.
// Errors: those of PlanQuantization.
absl::StatusOr<SchemeSizes> SizesInFolder(
    const std::string& model, absl::Span<const char* const> schemes);

// The same in the package that compile makes of that folder, to within 64
// bytes, with its tokenizer and lm_head in int8. Schemes that the device engine
// has no integer product for, whose layers would be float32 there, are left
// out. Errors: those of PlanQuantization and ModelCompiler::Plan;
// kInvalidArgument when no scheme is left.
absl::StatusOr<SchemeSizes> SizesInPackage(
    const std::string& model, absl::Span<const char* const> schemes);

}  // namespace qeff

#endif  // QEFF_PIPELINE_SCHEME_SIZES_H_
