// SPDX-License-Identifier: Apache-2.0
//
// From a checkpoint to the model that the device engine runs, in this process
// and without a file; whole, or one matrix after another.
//
//   QEFF_ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(folder));
//   QEFF_ASSIGN_OR_RETURN(auto transformer, Transformer::Load(checkpoint));
//   QEFF_ASSIGN_OR_RETURN(auto model,
//                         CompileInMemory(*transformer, {}, pool));
//   QEFF_ASSIGN_OR_RETURN(auto engine, Engine::Create(model, pool, {1024}));

#ifndef QEFF_COMPILE_COMPILE_IN_MEMORY_H_
#define QEFF_COMPILE_COMPILE_IN_MEMORY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "qeff/compile/sparse_matrix.h"
#include "qeff/device/engine_options.h"
#include "qeff/device/model.h"
#include "qeff/device/package/model_tensors.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// What becomes of lm_head, which the checkpoint may hold as float or codes.
enum class LmHeadRule : uint8_t {
  // kQuantize to int8 when the checkpoint has quantized layers, else kKeep:
  // the logits of a float model stay those of its weights.
  kAuto,
  kKeep,      // as the checkpoint has it; a tied one stays the embedding
  kQuantize,  // to CompileOptions::lm_head_scheme, unless it is codes already
};

struct CompileOptions {
  LmHeadRule lm_head = LmHeadRule::kAuto;
  QuantScheme lm_head_scheme{/*bits=*/8, /*group_size=*/0};
  // kFast packs bf16 matrices for the bf16 product, kFloat32 keeps them where
  // they are mapped. Codes are packed either way.
  Activations activations = Activations::kFast;
  // Which matrices of a pruned model have its zeros left out.
  SparseRule sparse = SparseRule::kFaster;
  // Of each block, for an int8 cache (qeff/calibration/cached_keys.h); empty:
  // none.
  std::vector<CachedKeys> cached_keys;

  friend bool operator==(const CompileOptions& a, const CompileOptions& b) {
    return a.lm_head == b.lm_head && a.lm_head_scheme == b.lm_head_scheme &&
           a.activations == b.activations && a.sparse == b.sparse &&
           a.cached_keys == b.cached_keys;
  }
};

// Parses what --lm_head takes: "auto", "keep" or a scheme. Errors:
// kInvalidArgument.
absl::Status ParseLmHead(absl::string_view text, CompileOptions* options);

// Returns the weights of `transformer` in the layouts of the engine. Codes of
// 2, 3, 4 and 8 bits are packed, and with kFast bf16 matrices with one row an
// output; of the rest, a matrix that the checkpoint holds as float32, bf16 or
// f16 with one row an output is used where it is mapped (the result keeps the
// checkpoint open), and any other (GPT-2's transposed ones, codes of 5 to 7
// bits, float64) is copied as float32. The values of weights change for
// nothing but a quantized lm_head. Biases and norms are copied. Precondition
// (checked): cached_keys are of all blocks or none.
// Errors: kResourceExhausted when memory is out, those of reading a quantized
// tensor, and kDataLoss for an lm_head to quantize that is not finite.
// Cost: the copies, on all threads; none for the mapped ones, which the first
// token reads. Pages of the checkpoint that were packed are let go of.
absl::StatusOr<std::shared_ptr<const DeviceModel>> CompileInMemory(
    const Transformer& transformer, const CompileOptions& options,
    ThreadPool* pool);

// The model with all its vectors, and with layout, rows and cols of all its
// matrices, which have no bytes (and so are empty()).
struct ModelPlan {
  DeviceModel model;
  // Matrices that would be faster sparse, were the model not so small that
  // caches hold it (KeepDenseInCaches).
  int64_t dense_in_caches = 0;
};

// The same model, one matrix after another, so that the memory of what writes
// it follows the largest matrix. Thread-compatible. Transformer and pool must
// outlive it.
class ModelCompiler {
 public:
  ModelCompiler(const Transformer& transformer, const CompileOptions& options,
                ThreadPool* pool)
      : transformer_(transformer), options_(options), pool_(pool) {}

  // Reads no weights but vectors, what quantized layers have beside their
  // codes, and those that may become sparse; codes of 3, 5, 6 and 7 bits in
  // spaced form are made dense and dropped. Errors: kResourceExhausted, and
  // those of reading a quantized tensor.
  absl::StatusOr<ModelPlan> Plan() const;

  // The matrix `planned` of the plan with its bytes, of its own or where they
  // are mapped. Precondition (checked): the model has it. Errors: those of
  // CompileInMemory.
  absl::StatusOr<DeviceMatrix> CompileMatrix(const TensorId& id,
                                             const DeviceMatrix& planned) const;

  // Lets go of the mapped pages that `id` is made of, and those of the rest of
  // its block. A matrix that is used where it is mapped stays valid.
  void ReleasePages(const TensorId& id) const;

 private:
  const Transformer& transformer_;
  const CompileOptions options_;
  ThreadPool* const pool_;
};

}  // namespace qeff

#endif  // QEFF_COMPILE_COMPILE_IN_MEMORY_H_
