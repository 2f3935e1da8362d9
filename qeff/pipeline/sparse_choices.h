// SPDX-License-Identifier: Apache-2.0
//
// Fewer weights instead of fewer bits: which sparse models are as small as a
// limit asks for. For device packages, which leave zeros out; a folder stores
// them as any other code, so that the dense scheme takes no more there and
// loses less.

#ifndef QEFF_PIPELINE_SPARSE_CHOICES_H_
#define QEFF_PIPELINE_SPARSE_CHOICES_H_

#include <string>
#include <vector>

#include "qeff/pipeline/scheme_sizes.h"

namespace qeff {

struct SparseChoice {
  std::string scheme;
  std::string pattern;  // "2:4", or empty:
  double share = 0;     // of the weights that go

  // "0.53 of int4_g128", "2:4 of int4_g128".
  std::string name() const;
};

// Choices whose blocks' layers take at most `bits` bits a weight in a package:
// int4_g128 and int8 with as many zeros as that asks for (a quarter to seven
// tenths: fewer save nothing, more lose too much), and 2:4 of int4_g128, whose
// products are the fastest. Schemes that are small enough without zeros, or
// that `sizes` does not have, are left out.
std::vector<SparseChoice> SparseChoicesWithin(double bits,
                                              const SchemeSizes& sizes);

}  // namespace qeff

#endif  // QEFF_PIPELINE_SPARSE_CHOICES_H_
