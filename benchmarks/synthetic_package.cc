// SPDX-License-Identifier: Apache-2.0

#include "benchmarks/synthetic_package.h"

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "qeff/compile/pack_matrix.h"
#include "qeff/compile/package_writer.h"
#include "qeff/compile/sparse_matrix.h"
#include "qeff/device/model.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/util/aligned.h"
#include "qeff/util/random.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// A random matrix of a layout, once for each shape: layers get copies of the
// bytes, since the machine must read each of them.
class MatrixMaker {
 public:
  MatrixMaker(std::string scheme, std::string sparsity, ThreadPool* pool)
      : scheme_(std::move(scheme)),
        sparsity_(std::move(sparsity)),
        pool_(pool) {}

  // As a layer of a block.
  absl::StatusOr<DeviceMatrix> Make(int64_t rows, int64_t cols) {
    return Make(rows, cols, scheme_, sparsity_);
  }

  // As another scheme: "f32", "bf16" or what ParseQuantScheme takes.
  absl::StatusOr<DeviceMatrix> Make(int64_t rows, int64_t cols,
                                    const std::string& scheme,
                                    const std::string& sparsity = "") {
    DeviceMatrix& model =
        made_[absl::StrCat(scheme, " ", sparsity, " ", rows, " ", cols)];
    if (model.empty()) {
      QEFF_ASSIGN_OR_RETURN(model, MakeFirst(rows, cols, scheme, sparsity));
    }
    auto copy = std::make_shared<AlignedArray<uint8_t>>(model.bytes.size());
    std::memcpy(copy->data(), model.bytes.data(), copy->size());
    DeviceMatrix matrix = model;
    matrix.bytes = copy->span();
    matrix.owner = std::move(copy);
    return matrix;
  }

  // The originals are no longer needed.
  void Clear() { made_.clear(); }

 private:
  absl::StatusOr<DeviceMatrix> MakeFirst(int64_t rows, int64_t cols,
                                         const std::string& scheme,
                                         const std::string& sparsity) {
    Matrix<float> values(rows, cols);
    const Random random(static_cast<uint64_t>(rows * 31 + cols));
    const float scale = 1.0f / std::sqrt(static_cast<float>(cols));
    pool_->ParallelFor(rows, 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin * cols; i < end * cols; ++i) {
        values.data()[i] = scale * random.NormalAt(static_cast<uint64_t>(i));
      }
    });
    QEFF_RETURN_IF_ERROR(Prune(sparsity, &values));
    if (scheme == "f32") return OwnedMatrix(std::move(values));
    if (scheme == "bf16") {
      std::vector<uint8_t> halves(static_cast<size_t>(rows * cols * 2));
      for (int64_t i = 0; i < rows * cols; ++i) {
        const uint16_t half = FloatToBF16(values.data()[i]);
        std::memcpy(halves.data() + 2 * i, &half, 2);
      }
      return MaybeSparse(
          PackBF16({DType::kBF16, Shape({rows, cols}), halves}, pool_),
          sparsity);
    }
    QEFF_ASSIGN_OR_RETURN(const QuantScheme parsed, ParseQuantScheme(scheme));
    const TensorView view{
        DType::kF32, Shape({rows, cols}),
        absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(values.data()),
                            values.span().size() * sizeof(float))};
    QEFF_ASSIGN_OR_RETURN(const QuantizedCopy copy,
                          QuantizedCopy::Make(parsed, view, pool_));
    if (!CanPack(copy.view(), rows)) {
      return InvalidInputError("--scheme: the engine cannot pack ", scheme);
    }
    return MaybeSparse(PackQuantized(copy.view(), rows, pool_), sparsity);
  }

  DeviceMatrix MaybeSparse(DeviceMatrix packed, const std::string& sparsity) {
    return sparsity.empty() ? packed
                            : SparseWhereBetter(std::move(packed),
                                                SparseRule::kSmaller, pool_);
  }

  static absl::Status Prune(const std::string& sparsity,
                            Matrix<float>* values) {
    if (sparsity.empty()) return absl::OkStatus();
    const bool two_of_four = sparsity == "2:4";
    double part = 0;
    if (!two_of_four &&
        !(absl::SimpleAtod(sparsity, &part) && part >= 0 && part < 1)) {
      return InvalidInputError("--sparsity: expected 2:4 or 0 to 1, found ",
                               sparsity);
    }
    const Random random(3);
    for (int64_t i = 0; i < values->rows() * values->cols(); ++i) {
      const bool removed =
          two_of_four
              ? (random.At(static_cast<uint64_t>(i / 4)) + i) % 4 >= 2
              : static_cast<double>(random.At(static_cast<uint64_t>(i)) >> 11) *
                        0x1p-53 <
                    part;
      if (removed) values->data()[i] = 0;
    }
    return absl::OkStatus();
  }

  const std::string scheme_;
  const std::string sparsity_;
  ThreadPool* const pool_;
  std::map<std::string, DeviceMatrix> made_;
};

absl::StatusOr<std::shared_ptr<const DeviceModel>> MakeModel(
    const TransformerSpec& spec, const std::string& scheme,
    const std::string& lm_head, const std::string& sparsity, ThreadPool* pool) {
  if (spec.qkv_bias || spec.attention_output_bias || spec.ffn_bias ||
      spec.norm_bias || spec.position == PositionKind::kLearned) {
    return InvalidInputError("--shape: models with biases are not made here");
  }
  MatrixMaker maker(scheme, sparsity, pool);
  auto model = std::make_shared<DeviceModel>();
  model->spec = spec;
  const auto ones = [](int64_t size) {
    return std::vector<float>(static_cast<size_t>(size), 1.0f);
  };
  const int64_t hidden = spec.hidden_size;
  QEFF_ASSIGN_OR_RETURN(model->token_embedding,
                        maker.Make(spec.vocab_size, hidden, "f32"));
  QEFF_ASSIGN_OR_RETURN(model->lm_head.weight,
                        maker.Make(spec.vocab_size, hidden, lm_head));
  model->final_norm.weight = ones(hidden);
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    DeviceBlock block;
    block.attention_norm.weight = block.ffn_norm.weight = ones(hidden);
    if (spec.qk_norm) block.q_norm = block.k_norm = ones(spec.head_dim);
    struct Part {
      DeviceLinear* linear;
      int64_t rows, cols;
    };
    std::vector<Part> parts = {{&block.q, spec.q_size(), hidden},
                               {&block.k, spec.kv_size(), hidden},
                               {&block.v, spec.kv_size(), hidden},
                               {&block.o, hidden, spec.q_size()},
                               {&block.up, spec.ffn_size, hidden},
                               {&block.down, hidden, spec.ffn_size}};
    if (spec.gated_ffn) parts.push_back({&block.gate, spec.ffn_size, hidden});
    for (const Part& part : parts) {
      QEFF_ASSIGN_OR_RETURN(part.linear->weight,
                            maker.Make(part.rows, part.cols));
    }
    model->blocks.push_back(std::move(block));
  }
  return model;
}

}  // namespace

absl::Status WriteSyntheticPackage(const TransformerSpec& spec,
                                   const std::string& scheme,
                                   const std::string& lm_head,
                                   const std::string& sparsity, int threads,
                                   const std::string& path) {
  const pid_t child = fork();
  if (child < 0) return absl::ResourceExhaustedError("cannot fork");
  if (child == 0) {
    const auto write = [&]() -> absl::Status {
      QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadPool> pool,
                            CreateThreadPool(threads));
      QEFF_ASSIGN_OR_RETURN(
          const std::shared_ptr<const DeviceModel> model,
          MakeModel(spec, scheme, lm_head, sparsity, pool.get()));
      return WritePackage(*model, nullptr, {}, path);
    };
    const absl::Status status = write();
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    }
    std::_Exit(status.ok() ? 0 : 1);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || status != 0) {
    std::remove(path.c_str());
    return absl::UnknownError("the package could not be made");
  }
  return absl::OkStatus();
}

}  // namespace qeff
