// SPDX-License-Identifier: Apache-2.0

#include "qeff/calibration/hidden_states.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/util/status.h"

namespace qeff {

SampleChunks::SampleChunks(const TokenSample& sample,
                           std::function<absl::Status()> check)
    : check_(std::move(check)), rows_(sample.tokens) {
  for (const auto& sequence : sample.sequences) {
    lengths_.push_back(static_cast<int64_t>(sequence.size()));
  }
}

absl::Status SampleChunks::ForSequences(Body body) const {
  const absl::Span<const int64_t> lengths = lengths_;
  int64_t row = 0;
  for (size_t first = 0; first < lengths.size();) {
    size_t last = first;
    int64_t rows = 0;
    do {
      rows += lengths[last++];
    } while (last < lengths.size() && rows + lengths[last] <= kWalkChunkTokens);
    if (check_) QEFF_RETURN_IF_ERROR(check_());
    QEFF_RETURN_IF_ERROR(
        body({row, rows, lengths.subspan(first, last - first)}));
    row += rows;
    first = last;
  }
  return absl::OkStatus();
}

absl::Status SampleChunks::ForRows(Body body) const {
  for (int64_t row = 0; row < rows_; row += kWalkChunkTokens) {
    if (check_) QEFF_RETURN_IF_ERROR(check_());
    QEFF_RETURN_IF_ERROR(
        body({row, std::min(kWalkChunkTokens, rows_ - row), {}}));
  }
  return absl::OkStatus();
}

HiddenStates::HiddenStates(const std::string& folder, const std::string& name,
                           RowStore rows)
    : folder_(folder), name_(name), rows_(std::move(rows)) {}

absl::StatusOr<HiddenStates> HiddenStates::Create(const std::string& folder,
                                                  const std::string& name,
                                                  int64_t rows, int64_t cols,
                                                  bool spill) {
  if (!spill) return HiddenStates(folder, name, RowStore(rows, cols));
  QEFF_ASSIGN_OR_RETURN(
      RowStore store,
      RowStore::InFile(absl::StrCat(folder, "/scratch.", name), rows, cols));
  return HiddenStates(folder, name, std::move(store));
}

std::string HiddenStates::PathOf(int64_t step) const {
  return absl::StrCat(folder_, "/", name_, ".", step);
}

absl::Status HiddenStates::Save(int64_t step, Json* entry) {
  QEFF_ASSIGN_OR_RETURN(const uint64_t checksum, rows_.Save(PathOf(step)));
  (*entry)[name_] = absl::StrCat(absl::Hex(checksum));
  return absl::OkStatus();
}

absl::Status HiddenStates::Load(int64_t step, const Json& entry) {
  const std::string path = PathOf(step);
  QEFF_ASSIGN_OR_RETURN(const uint64_t checksum, rows_.Load(path));
  if (!entry.contains(name_) ||
      entry[name_] != absl::StrCat(absl::Hex(checksum))) {
    return InvalidInputError(path,
                             ": the checksum is not the journal's; "
                             "--restart begins anew");
  }
  return absl::OkStatus();
}

void HiddenStates::Remove(int64_t step) const {
  (void)unlink(PathOf(step).c_str());
}

absl::Status EmbedSample(const Transformer& model, const TokenSample& sample,
                         absl::Span<HiddenStates* const> states) {
  int64_t row = 0;
  Matrix<float> embedded;
  for (const std::vector<int32_t>& sequence : sample.sequences) {
    const int64_t length = static_cast<int64_t>(sequence.size());
    if (embedded.rows() < length) {
      embedded = Matrix<float>(length, model.spec().hidden_size);
    }
    const auto rows = embedded.view().Rows(0, length);
    QEFF_RETURN_IF_ERROR(model.Embed(sequence, rows));
    for (HiddenStates* to : states) {
      QEFF_RETURN_IF_ERROR(to->rows().Write(row, rows));
    }
    row += length;
  }
  // Not needed again, and large.
  QEFF_ASSIGN_OR_RETURN(const TensorView table,
                        model.checkpoint().Get(model.map().token_embedding));
  model.checkpoint().Release(table);
  return absl::OkStatus();
}

}  // namespace qeff
