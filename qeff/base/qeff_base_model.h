// SPDX-License-Identifier: Apache-2.0
//
// The root of the facade: a model loaded from a Hugging Face folder, changed
// by named transforms, and saved as a folder again. The names follow
// QEfficient's, so that its users find their way.

#ifndef QEFF_BASE_QEFF_BASE_MODEL_H_
#define QEFF_BASE_QEFF_BASE_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/model_transform.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/json.h"

namespace qeff {

// Common part of all models. Create one through a subclass's FromPretrained.
// Not thread-safe.
class QEFFBaseModel {
 public:
  virtual ~QEFFBaseModel() = default;
  QEFFBaseModel(const QEFFBaseModel&) = delete;
  QEFFBaseModel& operator=(const QEFFBaseModel&) = delete;

  // The architecture in config.json, e.g. "LlamaForCausalLM"; the model_type
  // when it names none.
  std::string model_name() const;

  // config.json of the current folder.
  const Json& config() const { return model_->checkpoint().config(); }
  const TransformerSpec& spec() const { return model_->spec(); }
  const Transformer& transformer() const { return *model_; }
  const std::shared_ptr<const Transformer>& shared_transformer() const {
    return model_;
  }

  // Applies `transform`, which writes the changed model to the new folder
  // `output`; this object then is that model. When the transform reports that
  // it did not apply, nothing is written and the model stays as it was. After
  // an error too. The report is returned and kept in transforms().
  absl::StatusOr<TransformReport> Transform(ModelTransform* transform,
                                            const std::string& output);

  // Reports of all transforms so far, in order.
  const std::vector<TransformReport>& transforms() const { return transforms_; }

  // Writes the current model to the new folder `folder`: weights, config and
  // the other files (tokenizer, ...). Errors as CheckpointWriter.
  absl::Status SavePretrained(const std::string& folder) const;

  ThreadPool* pool() const { return pool_; }

 protected:
  QEFFBaseModel(std::shared_ptr<const Transformer> model, ThreadPool* pool)
      : model_(std::move(model)), pool_(pool) {}

  // Called after the model became another one: drop what was derived from it.
  virtual void OnModelChanged() = 0;

 private:
  absl::Status Save(const std::string& folder) const;

  std::shared_ptr<const Transformer> model_;
  ThreadPool* pool_;
  std::vector<TransformReport> transforms_;
};

// Opens `folder` and checks every tensor of it, reading no weights.
absl::StatusOr<std::shared_ptr<const Transformer>> LoadTransformer(
    const std::string& folder);

// The tokenizer in the folder of `model`. Errors as Tokenizer::FromFolder, and
// kInvalidArgument when it has more tokens than the embedding has rows.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(
    const Transformer& model);

}  // namespace qeff

#endif  // QEFF_BASE_QEFF_BASE_MODEL_H_
