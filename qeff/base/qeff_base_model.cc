// SPDX-License-Identifier: Apache-2.0

#include "qeff/base/qeff_base_model.h"

#include <utility>

#include "qeff/io/checkpoint_writer.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {

absl::StatusOr<std::shared_ptr<const Transformer>> LoadTransformer(
    const std::string& folder) {
  using Result = absl::StatusOr<std::shared_ptr<const Transformer>>;
  return GuardMemory([&]() -> Result {
    QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const Checkpoint> checkpoint,
                          Checkpoint::Open(folder));
    return Transformer::Load(std::move(checkpoint));
  });
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(
    const Transformer& model) {
  using Result = absl::StatusOr<std::unique_ptr<Tokenizer>>;
  return GuardMemory([&]() -> Result {
    const std::string& folder = model.checkpoint().folder();
    QEFF_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer,
                          Tokenizer::FromFolder(folder));
    if (tokenizer->vocab_size() > model.spec().vocab_size) {
      return InvalidInputError(
          folder, ": the tokenizer has ", tokenizer->vocab_size(),
          " tokens, expected at most the ", model.spec().vocab_size,
          " rows of the embedding");
    }
    return tokenizer;
  });
}

std::string QEFFBaseModel::model_name() const {
  const auto architectures = config().find("architectures");
  if (architectures != config().end() && architectures->is_array() &&
      !architectures->empty() && architectures->front().is_string()) {
    return architectures->front().get<std::string>();
  }
  return spec().family;
}

absl::StatusOr<TransformReport> QEFFBaseModel::Transform(
    ModelTransform* transform, const std::string& output) {
  return GuardMemory([&]() -> absl::StatusOr<TransformReport> {
    QEFF_ASSIGN_OR_RETURN(TransformReport report,
                          transform->Apply(*model_, output, *pool_),
                          transform->name());
    // Whatever fails from here on fails before anything of this changes.
    std::vector<TransformReport> transforms = transforms_;
    transforms.push_back(report);
    if (report.applied) {
      QEFF_ASSIGN_OR_RETURN(model_, LoadTransformer(output));
      OnModelChanged();
    }
    transforms_ = std::move(transforms);
    return report;
  });
}

absl::Status QEFFBaseModel::SavePretrained(const std::string& folder) const {
  return GuardMemory([&] { return Save(folder); });
}

absl::Status QEFFBaseModel::Save(const std::string& folder) const {
  const Checkpoint& checkpoint = model_->checkpoint();
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointWriter> writer,
                        CheckpointWriter::Create(folder, checkpoint.tensors()));
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    QEFF_RETURN_IF_ERROR(
        CopyTensor(checkpoint, tensor.name, /*check=*/nullptr, writer.get()));
  }
  QEFF_RETURN_IF_ERROR(checkpoint.VerifyUnchanged());
  QEFF_ASSIGN_OR_RETURN(const std::vector<CheckpointWriter::ExtraFile> others,
                        ReadOtherFiles(checkpoint));
  return writer->Commit(checkpoint.config(), others);
}

}  // namespace qeff
