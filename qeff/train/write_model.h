// SPDX-License-Identifier: Apache-2.0
//
// All weights in memory as a Hugging Face folder.

#ifndef QEFF_TRAIN_WRITE_MODEL_H_
#define QEFF_TRAIN_WRITE_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/tensor/dtype.h"
#include "qeff/train/model_weights.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/json.h"
#include "qeff/util/output_folder.h"

namespace qeff {

// What weights are rounded to: F32, F16 or BF16.
struct WriteTypes {
  WriteTypes(DType all) : matrices(all), rest(all) {}  // NOLINT: by intent
  WriteTypes(DType matrices, DType rest) : matrices(matrices), rest(rest) {}

  DType matrices;  // of the blocks' linear layers
  DType rest;  // norms, biases, embeddings, lm_head; the model's torch_dtype
};

// Writes `weights` under the names of `map`, with `config`, whose torch_dtype
// is set, and `files`; and commits `folder`. Errors: those of CheckpointWriter.
absl::Status WriteModel(const ModelMap& map, const ModelWeights& weights,
                        WriteTypes types, const Json& config,
                        const std::vector<CheckpointWriter::ExtraFile>& files,
                        std::shared_ptr<OutputFolder> folder);

}  // namespace qeff

#endif  // QEFF_TRAIN_WRITE_MODEL_H_
