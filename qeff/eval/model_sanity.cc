// SPDX-License-Identifier: Apache-2.0

#include "qeff/eval/model_sanity.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "qeff/eval/evaluate.h"
#include "qeff/eval/host_model.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Enough to tell the models of ModelSanity::bound apart, and little beside the
// thousands that a model is calibrated on.
constexpr size_t kMostTokens = 256;

}  // namespace

absl::StatusOr<ModelSanity> MeasureSanity(
    std::shared_ptr<const Transformer> model,
    absl::Span<const std::vector<int32_t>> sequences, ThreadPool* pool) {
  ModelSanity sanity;
  sanity.vocab_size = model->spec().vocab_size;
  std::vector<ScoredWindow> windows;
  size_t left = kMostTokens;
  for (const std::vector<int32_t>& sequence : sequences) {
    // The first token has no context and is not scored.
    const size_t scored =
        std::min(left, std::max<size_t>(sequence.size(), 1) - 1);
    if (scored == 0) continue;
    left -= scored;
    windows.push_back({{sequence.begin(), sequence.begin() + scored + 1},
                       /*first_scored=*/1});
  }
  if (windows.empty()) return sanity;
  HostForwardOptions options;
  options.weight_budget_bytes = uint64_t{256} << 20;
  QEFF_ASSIGN_OR_RETURN(std::unique_ptr<HostForward> forward,
                        HostForward::Create(std::move(model), pool, options));
  HostLogitsModel logits(std::move(forward));
  const auto result = Evaluate(&logits, /*reference=*/nullptr, windows, pool);
  sanity.tokens = static_cast<int64_t>(kMostTokens - left);
  if (absl::IsDataLoss(result.status())) {
    sanity.perplexity = std::numeric_limits<double>::infinity();
    return sanity;
  }
  QEFF_RETURN_IF_ERROR(result.status());
  sanity.perplexity = result->perplexity();
  return sanity;
}

std::string FormatSanity(const ModelSanity& sanity, const std::string& model,
                         const std::string& text) {
  return absl::StrFormat(
      "%s: expected a perplexity well below %d, which guessing among all "
      "tokens "
      "has, on %d tokens of %s, found %.6g: the weights may be "
      "scrambled (matrices stored transposed, rows in the order of another "
      "family, a tensor under the name of another), the tokenizer another "
      "model's, or the text unlike anything that the model knows",
      model, sanity.vocab_size, sanity.tokens, text, sanity.perplexity);
}

}  // namespace qeff
