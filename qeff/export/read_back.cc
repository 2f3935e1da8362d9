// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/read_back.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Weights that are compared at once.
constexpr int64_t kChunkElems = int64_t{1} << 22;

absl::Status CompareLayer(const Transformer& model, const Transformer& written,
                          const LinearModule& module) {
  const int64_t cols = module.in_features;
  const int64_t chunk = std::max<int64_t>(1, kChunkElems / cols);
  for (int64_t row = 0; row < module.out_features; row += chunk) {
    const int64_t count = std::min(chunk, module.out_features - row);
    QEFF_ASSIGN_OR_RETURN(
        const LinearWeights expected,
        model.LoadLinearRows(module.block, module.role, row, count));
    QEFF_ASSIGN_OR_RETURN(
        const LinearWeights found,
        written.LoadLinearRows(module.block, module.role, row, count));
    const absl::Span<const float> a = expected.weight.span();
    const absl::Span<const float> b = found.weight.span();
    const auto [at, other] = std::mismatch(
        a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
          return x == y || (std::isnan(x) && std::isnan(y));
        });
    if (at == a.end() && other == b.end()) {
      model.ReleaseBlock(module.block);
      written.ReleaseBlock(module.block);
      continue;
    }
    return absl::UnavailableError(absl::StrCat(
        written.checkpoint().folder(), ": layer ", module.module, ": row ",
        row + (at - a.begin()) / cols, ": expected ", *at, ", read ", *other));
  }
  return absl::OkStatus();
}

absl::Status Compare(const Transformer& model, const std::string& folder) {
  QEFF_ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(folder));
  QEFF_ASSIGN_OR_RETURN(const auto written, Transformer::Load(checkpoint));
  for (const LinearModule& module : model.map().Linears()) {
    QEFF_RETURN_IF_ERROR(CompareLayer(model, *written, module));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadBack(const Transformer& model, const std::string& folder) {
  const absl::Status status = Compare(model, folder);
  if (!status.ok()) {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  return status;
}

}  // namespace qeff
