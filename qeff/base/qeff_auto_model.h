// SPDX-License-Identifier: Apache-2.0
//
// A model for its hidden states: embeddings of texts.
//
//   auto pool = CreateThreadPool(2);
//   auto model = QEFFAutoModel::FromPretrained(folder, pool->get());
//   auto vector = (*model)->Embed("Once upon a time", Pooling::kMean);

#ifndef QEFF_BASE_QEFF_AUTO_MODEL_H_
#define QEFF_BASE_QEFF_AUTO_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/tensor/tensor.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/host_forward.h"

namespace qeff {

// How the hidden states of a text become one vector.
enum class Pooling {
  kMean,  // mean over all tokens
  kLast,  // that of the last token
  kCls,   // that of the first token
};

class QEFFAutoModel : public QEFFBaseModel {
 public:
  // Loads a folder. The tokenizer is read when a text is first given; a folder
  // without one still takes token ids. `pool` must outlive the model.
  static absl::StatusOr<std::unique_ptr<QEFFAutoModel>> FromPretrained(
      const std::string& folder, ThreadPool* pool);

  // Hidden states after the final norm, [tokens, hidden_size]. Errors:
  // kInvalidArgument for no tokens or ids outside the vocabulary.
  absl::StatusOr<Matrix<float>> HiddenStates(absl::Span<const int32_t> tokens);

  // One vector of hidden_size for a text, special tokens added.
  absl::StatusOr<std::vector<float>> Embed(absl::string_view text,
                                           Pooling pooling);

  // Writes the model as an ONNX file that gives one vector a sequence, with
  // its weights as ExportHiddenStatesOnnx does. Defined in :qeff_onnx, on which
  // those who call it depend.
  absl::Status Export(Pooling pooling, const std::string& path) const;

 protected:
  void OnModelChanged() override;

 private:
  using QEFFBaseModel::QEFFBaseModel;

  absl::StatusOr<std::vector<float>> VectorOf(absl::string_view text,
                                              Pooling pooling);

  std::unique_ptr<HostForward> forward_;  // made on first use
  std::unique_ptr<Tokenizer> tokenizer_;  // made on first use
};

// Pools the rows of `hidden` ([tokens, size], at least one row).
std::vector<float> Pool(MatrixView<const float> hidden, Pooling pooling);

}  // namespace qeff

#endif  // QEFF_BASE_QEFF_AUTO_MODEL_H_
