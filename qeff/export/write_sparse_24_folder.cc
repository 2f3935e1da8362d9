// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/write_sparse_24_folder.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/export/read_back.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/format/sparse_24.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/io/sparse_24_tensor.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// A compressed matrix.
struct Compressed {
  std::vector<uint8_t> kept;
  std::vector<uint8_t> mask;
};

// Why the matrix cannot be, for people to read; empty when it can.
std::string Compress(const TensorView& view, Compressed* to) {
  const int64_t rows = view.shape[0], cols = view.shape[1];
  if (cols % kSparse24Group != 0) {
    return absl::StrCat("rows of ", cols, " are no multiple of 4");
  }
  const size_t size = DTypeBytes(view.dtype);
  const size_t row_bytes = static_cast<size_t>(cols) * size;
  const size_t mask_bytes = static_cast<size_t>(Sparse24MaskBytes(cols));
  to->kept.resize(view.bytes.size() / 2);
  to->mask.resize(static_cast<size_t>(rows) * mask_bytes);
  for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
    const absl::optional<int64_t> bad = CompressSparse24(
        static_cast<int64_t>(size),
        view.bytes.subspan(r * row_bytes, row_bytes),
        absl::MakeSpan(to->kept).subspan(r * row_bytes / 2, row_bytes / 2),
        absl::MakeSpan(to->mask).subspan(r * mask_bytes, mask_bytes));
    if (bad.has_value()) {
      return absl::StrCat("row ", r,
                          " has more than two weights that are not "
                          "0 in columns ",
                          *bad, " to ", *bad + kSparse24Group - 1);
    }
  }
  return "";
}

class FolderWriter {
 public:
  FolderWriter(const Transformer& model, const std::string& output)
      : model_(model), checkpoint_(model.checkpoint()), output_(output) {}

  absl::StatusOr<Sparse24FolderReport> Run() {
    QEFF_RETURN_IF_ERROR(Plan());
    HashSet<std::string> replaced;
    for (const LinearModule& module : layers_) {
      replaced.insert(module.module + ".weight");
    }
    std::vector<std::string> copied;
    for (const TensorInfo& info : checkpoint_.tensors()) {
      if (replaced.contains(info.name)) continue;
      copied.push_back(info.name);
      tensors_.push_back(info);
    }
    for (const TensorInfo& info : tensors_) {
      report_.weight_bytes += info.size_bytes();
    }
    QEFF_ASSIGN_OR_RETURN(const auto extra, ReadOtherFiles(checkpoint_));
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointWriter> writer,
                          CheckpointWriter::Create(output_, tensors_));
    for (const LinearModule& module : layers_) {
      QEFF_RETURN_IF_ERROR(WriteLayer(module, writer.get()));
    }
    for (const std::string& name : copied) {
      QEFF_RETURN_IF_ERROR(
          CopyTensor(checkpoint_, name, nullptr, writer.get()));
    }
    QEFF_RETURN_IF_ERROR(checkpoint_.VerifyUnchanged());
    QEFF_RETURN_IF_ERROR(writer->Commit(Config(), extra));
    QEFF_RETURN_IF_ERROR(ReadBack(model_, output_));
    return report_;
  }

 private:
  absl::Status Plan() {
    if (checkpoint_.config().contains("quantization_config") &&
        !checkpoint_.config()["quantization_config"].is_null()) {
      return InvalidInputError(
          checkpoint_.config_path(), ": quantization_config: ", kSparse24Format,
          " is made of floats that nothing compressed yet");
    }
    std::string first;
    for (const LinearModule& module : model_.map().Linears()) {
      const std::string name = module.module + ".weight";
      QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint_.Get(name));
      Compressed compressed;
      const std::string why =
          module.transposed ? "its weight is a transposed Conv1D"
          : !IsScaleDType(view.dtype)
              ? absl::StrCat("it is ", DTypeName(view.dtype))
              : Compress(view, &compressed);
      checkpoint_.Release(view);
      if (!why.empty()) {
        if (first.empty()) first = absl::StrCat(module.module, ": ", why);
        report_.kept.push_back(module.module);
        continue;
      }
      layers_.push_back(module);
      for (TensorInfo& info :
           Sparse24Tensors(module.module, view.dtype, module.out_features,
                           module.in_features)) {
        tensors_.push_back(std::move(info));
      }
    }
    report_.layers = static_cast<int64_t>(layers_.size());
    if (!layers_.empty()) return absl::OkStatus();
    return InvalidInputError(checkpoint_.folder(), ": no linear layer is 2:4 (",
                             first, "); prune the model to 2:4 first");
  }

  absl::Status WriteLayer(const LinearModule& module,
                          CheckpointWriter* writer) const {
    QEFF_ASSIGN_OR_RETURN(const TensorView view,
                          checkpoint_.Get(module.module + ".weight"));
    Compressed compressed;
    const std::string why = Compress(view, &compressed);
    if (!why.empty()) {
      return absl::UnavailableError(absl::StrCat(
          checkpoint_.folder(), ": ", module.module, " changed meanwhile"));
    }
    checkpoint_.Release(view);
    const std::vector<TensorInfo> infos = Sparse24Tensors(
        module.module, view.dtype, module.out_features, module.in_features);
    QEFF_RETURN_IF_ERROR(writer->Write(infos[0].name, 0, compressed.kept));
    QEFF_RETURN_IF_ERROR(writer->Write(infos[1].name, 0, compressed.mask));
    const int64_t sides[2] = {module.out_features, module.in_features};
    return writer->Write(
        infos[2].name, 0,
        {reinterpret_cast<const uint8_t*>(sides), sizeof(sides)});
  }

  Json Config() const {
    std::vector<std::string> ignored = report_.kept;
    if (model_.spec().tied_lm_head) {
      ignored.push_back(model_.map().lm_head.module);
    }
    Json sparsity{
        {"format", kSparse24Format},   {"targets", {"Linear"}},
        {"ignore", ignored},           {"global_sparsity", 0.5},
        {"sparsity_structure", "2:4"}, {"registry_requires_subclass", false}};
    Json config = checkpoint_.config();
    config["quantization_config"] =
        Json{{"quant_method", "compressed-tensors"},
             {"quantization_status", "compressed"},
             {"format", "dense"},
             {"config_groups", Json::object()},
             {"ignore", Json::array()},
             {"kv_cache_scheme", nullptr},
             {"sparsity_config", std::move(sparsity)}};
    return config;
  }

  const Transformer& model_;
  const Checkpoint& checkpoint_;
  const std::string output_;
  std::vector<LinearModule> layers_;  // that are compressed
  std::vector<TensorInfo> tensors_;   // of the output
  Sparse24FolderReport report_;
};

}  // namespace

absl::StatusOr<Sparse24FolderReport> WriteSparse24Folder(
    const Transformer& model, const std::string& output) {
  return GuardMemory([&]() -> absl::StatusOr<Sparse24FolderReport> {
    return FolderWriter(model, output).Run();
  });
}

}  // namespace qeff
