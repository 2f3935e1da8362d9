// SPDX-License-Identifier: Apache-2.0
//
// What an int8 cache does to keys before it rounds them, from text: channels
// differ in their mean and in how far they spread around it, and one scale for
// all of a key would be that of the widest.
//
//   QEFF_ASSIGN_OR_RETURN(const TokenSample sample, SampleTokens(...));
//   QEFF_ASSIGN_OR_RETURN(compile_options.cached_keys,
//                         CalibrateCachedKeys(model, sample, *pool));

#ifndef QEFF_CALIBRATION_CACHED_KEYS_H_
#define QEFF_CALIBRATION_CACHED_KEYS_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/device/model.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/tensor.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// Scales s of the channels of keys [tokens, channels] of a head, whose mean is
// taken away, so that rounding key / s to 8 bits with one scale a token errs
// least in the scores, in the sum over tokens of
//   max_c |key_c / s_c|^2 * sum_c s_c^2 query_energy_c
// among s_c = absmax_c^a query_energy_c^(-b/2), 1 (a = b = 0) included.
// Preconditions (checked): at least one token; query_energy [channels] >= 0:
// the mean square of the queries that meet these keys. Of finite keys the
// scales are finite and positive, their geometric mean about 1. Thread-safe.
// Source: the scales of SmoothQuant (Xiao et al. 2022), between queries and
// keys as in SmoothAttention (Lin et al. 2024, QServe), but after rotation, so
// that the halves of a pair need not be tied.
std::vector<float> SearchKeyScales(MatrixView<const float> keys,
                                   absl::Span<const double> query_energy);

// Means over all tokens, and scales over up to 512 of them, of every block of
// `model`, run on the host. The same for any number of threads. Errors: those
// of HostForward; kDataLoss for keys that are not finite, naming the block.
absl::StatusOr<std::vector<CachedKeys>> CalibrateCachedKeys(
    std::shared_ptr<const Transformer> model, const TokenSample& sample,
    ThreadPool& pool);

}  // namespace qeff

#endif  // QEFF_CALIBRATION_CACHED_KEYS_H_
