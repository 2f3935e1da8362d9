// SPDX-License-Identifier: Apache-2.0
//
// Packages of random weights in the shape of a model that is too large to keep
// beside the benchmarks.

#ifndef QEFF_BENCHMARKS_SYNTHETIC_PACKAGE_H_
#define QEFF_BENCHMARKS_SYNTHETIC_PACKAGE_H_

#include <string>

#include "absl/status/status.h"
#include "qeff/spec/transformer_spec.h"

namespace qeff {

// Writes a package with linear layers in `scheme` and lm_head in `lm_head`:
// "f32", "bf16" or what ParseQuantScheme takes. Layers of one shape have the
// same weights, each its own copy of them, since a machine must read each.
// Works in a process of its own, which takes more memory than the caller should
// seem to need. `sparsity` is "" for dense weights, "0.5" or another part of
// all that are 0 at random places, or "2:4": two of four in a row are not.
// Errors: kInvalidArgument for a scheme or a spec that is not
// made here; kUnknown when the process failed, which has then told why on
// stderr. No file is left then.
absl::Status WriteSyntheticPackage(const TransformerSpec& spec,
                                   const std::string& scheme,
                                   const std::string& lm_head,
                                   const std::string& sparsity, int threads,
                                   const std::string& path);

}  // namespace qeff

#endif  // QEFF_BENCHMARKS_SYNTHETIC_PACKAGE_H_
