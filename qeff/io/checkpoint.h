// SPDX-License-Identifier: Apache-2.0
//
// Reading a Hugging Face model folder: config.json and the tensors of
// model.safetensors, or of the shards that model.safetensors.index.json names.
// For writing one see checkpoint_writer.h.

#ifndef QEFF_IO_CHECKPOINT_H_
#define QEFF_IO_CHECKPOINT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "qeff/io/checkpoint_index.h"
#include "qeff/io/safetensors.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/json.h"

namespace qeff {

// A tensor of a checkpoint: name, type and shape, without data.
struct TensorInfo {
  std::string name;
  DType dtype;
  Shape shape;

  uint64_t size_bytes() const {
    return (shape.num_elements() * DTypeBytes(dtype)).value();
  }
};

// Bytes of a file of a checkpoint's folder.
struct FileRange {
  std::string file;  // its name in the folder
  uint64_t offset_bytes = 0;
};

// An open model folder. Weights stay mapped and are read on use. Thread-safe.
class Checkpoint {
 public:
  // Opens config.json and every shard. With both a model.safetensors and an
  // index, the single file is the model, as in Transformers. Symbolic links are
  // followed (Hugging Face's cache is made of them) and must end at regular
  // files. Errors, each naming file and field: kNotFound for a missing folder,
  // config.json, weights or shard, and what other weights lie there;
  // kInvalidArgument for a config that is not an object, a shard name that is
  // not a plain file name, a tensor that is missing from its shard, in two
  // shards or unlisted (the first ten are named); and those of
  // SafetensorsFile::Open.
  static absl::StatusOr<std::shared_ptr<const Checkpoint>> Open(
      const std::string& folder);

  const std::string& folder() const { return folder_; }
  std::string config_path() const { return folder_ + "/config.json"; }
  // What config.json holds, and, unless it has a quantization_config, that of
  // quantize_config.json or quant_config.json, where early versions of AutoGPTQ
  // and AutoAWQ put it.
  const Json& config() const { return config_; }

  // All tensors, ordered by name.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  bool Has(absl::string_view name) const { return locations_.contains(name); }

  // "FILE: tensor 'NAME'", for messages; the folder for a tensor that is in no
  // file.
  std::string Place(absl::string_view name) const;

  // The tensor called `name`, valid while this object lives. Errors:
  // kNotFound, naming the folder and the tensor.
  absl::StatusOr<TensorView> Get(absl::string_view name) const;

  // As Get, and kInvalidArgument naming file, tensor and both shapes unless the
  // tensor has shape `shape`.
  absl::StatusOr<TensorView> Get(absl::string_view name,
                                 const Shape& shape) const;

  // Where `bytes` lie when they are mapped from one of the files (those of a
  // view from Get, or a part of them); nullopt for other memory.
  absl::optional<FileRange> Find(absl::Span<const uint8_t> bytes) const;

  // Drops the pages of `view` (from Get, or a part of one) from resident
  // memory: call it behind a streaming read.
  void Release(const TensorView& view) const;

  // What is wrong in the folder but does not matter, such as a total_size that
  // does not agree with the tensors; one line each.
  const std::vector<std::string>& warnings() const { return warnings_; }

  // Files of the folder other than config.json and weights (tokenizer,
  // generation config, ...), by name. Only regular files; none that is hidden,
  // no weights of other formats and their indices, and nothing that config()
  // is made of either.
  const std::vector<std::string>& other_files() const { return other_files_; }

  // Sum of the tensors' sizes.
  uint64_t weight_bytes() const { return weight_bytes_; }

  // Errors: kUnavailable when a weight file changed since it was opened.
  absl::Status VerifyUnchanged() const;

 private:
  struct Location {
    size_t file;
    const SafetensorsEntry* entry;
  };

  Checkpoint() = default;

  absl::Status AddEarlyQuantizationConfig(
      const std::vector<std::string>& names);
  absl::Status OpenWeights(const std::vector<std::string>& names);
  absl::Status OpenShards(const std::string& index_path);
  absl::Status AddFile(const std::string& name);
  absl::Status CheckAgainstIndex(const CheckpointIndex& index,
                                 const std::string& index_path);
  absl::Status ListTensors();
  // The file that `bytes` are mapped from, or null.
  const SafetensorsFile* FileOf(absl::Span<const uint8_t> bytes) const;

  std::string folder_;
  Json config_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  HashMap<absl::string_view, Location> locations_;  // into files_
  std::vector<std::string> other_files_;
  std::vector<std::string> warnings_;
  uint64_t weight_bytes_ = 0;
};

}  // namespace qeff

#endif  // QEFF_IO_CHECKPOINT_H_
