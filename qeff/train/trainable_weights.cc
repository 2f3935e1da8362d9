// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/trainable_weights.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/kernels/quantize/quantize.h"
#include "qeff/quant/kept_zeros.h"
#include "qeff/quant/rounded_weights.h"
#include "qeff/util/check.h"
#include "qeff/util/random.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int64_t kRowsOfTask = 16;
constexpr int64_t kElemsOfTask = int64_t{1} << 16;

MatrixView<float> ViewOf(const Parameter& parameter) {
  return MatrixView<float>(parameter.values.data(), parameter.rows,
                           parameter.cols);
}

// Calls body(begin, end) for parts of [0, count).
template <typename Body>
void ForElems(size_t count, ThreadPool& pool, Body body) {
  pool.ParallelFor(static_cast<int64_t>(count), kElemsOfTask,
                   [&](int64_t begin, int64_t end, int) {
                     body(static_cast<size_t>(begin), static_cast<size_t>(end));
                   });
}

void RoundIntegers(const QuantScheme& scheme, MatrixView<float> weights,
                   ThreadPool& pool) {
  constexpr DType kScale = ScaleDType(DType::kF32);
  const int64_t cols = weights.cols();
  pool.ParallelFor(
      weights.rows(), kRowsOfTask, [&](int64_t begin, int64_t end, int) {
        const QuantizedShape shape(scheme, end - begin, cols);
        const size_t groups = static_cast<size_t>(shape.rows * shape.groups);
        std::vector<uint8_t> packed(
            static_cast<size_t>(shape.rows * shape.row_words) * 4);
        std::vector<uint8_t> scales(groups * DTypeBytes(kScale));
        std::vector<uint8_t> zeros(shape.asymmetric ? groups : 0);
        const absl::Span<float> values(
            weights.row(begin), static_cast<size_t>((end - begin) * cols));
        const absl::Span<const uint8_t> bytes(
            reinterpret_cast<const uint8_t*>(values.data()),
            values.size() * sizeof(float));
        QuantizeRows(scheme, kScale, DType::kF32, bytes, shape.rows, cols,
                     {absl::MakeSpan(packed), absl::MakeSpan(scales),
                      absl::MakeSpan(zeros)});
        QuantizedRowsView view;
        view.bits = scheme.bits;
        view.cols = cols;
        view.group_elems = shape.group_elems;
        view.scale_dtype = kScale;
        view.packed = packed;
        view.scales = scales;
        view.zeros = zeros;
        DequantizeRows(view, 0, shape.rows, values);
      });
}

absl::Status CheckLearnable(const TrainableOptions& options) {
  if (!options.scheme.has_value()) {
    return InvalidInputError("--learn_scales needs --scheme");
  }
  if (!options.scheme->integers() || !options.scheme->symmetric) {
    return InvalidInputError(
        "--learn_scales: expected a scheme of symmetric integers, found ",
        QuantSchemeName(*options.scheme));
  }
  if (options.lora_rank > 0) {
    return InvalidInputError(
        "--learn_scales and --lora_rank exclude each other");
  }
  return absl::OkStatus();
}

std::vector<bool> MaskOf(absl::Span<const float> values) {
  std::vector<bool> zero(values.size());
  size_t count = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    zero[i] = values[i] == 0.0f;
    count += zero[i];
  }
  const double share =
      static_cast<double>(count) / static_cast<double>(values.size());
  if (share < KeptZeros::kMaskedShare) zero.clear();
  return zero;
}

}  // namespace

void RoundToScheme(const QuantScheme& scheme, MatrixView<float> weights,
                   ThreadPool& pool) {
  if (scheme.integers()) {
    RoundIntegers(scheme, weights, pool);
  } else {
    RoundWeights(scheme, ScaleDType(scheme, DType::kF32), weights, pool);
  }
}

absl::StatusOr<std::unique_ptr<TrainableWeights>> TrainableWeights::Create(
    ModelWeights weights, const TrainableOptions& options, ThreadPool& pool) {
  if (options.learn_scales) QEFF_RETURN_IF_ERROR(CheckLearnable(options));
  std::unique_ptr<TrainableWeights> result(new TrainableWeights(options));
  result->base_ = std::move(weights);
  result->all_ = Parameters(result->base_);
  if (options.scheme.has_value()) {
    for (const Parameter& parameter : result->all_) {
      if (!parameter.is_block_linear) continue;
      const std::string why = WhyNotQuantized(*options.scheme, parameter.cols);
      if (!why.empty()) {
        return InvalidInputError("--scheme=", QuantSchemeName(*options.scheme),
                                 ": ", parameter.name, ": ", why);
      }
    }
  }
  result->weight_gradient_ = ZerosLike(result->base_);
  result->weight_gradients_ = Parameters(result->weight_gradient_);
  result->FindMasks();
  if (options.lora_rank > 0) result->AddAdapters();
  result->has_working_ = options.bf16_weights || options.scheme.has_value() ||
                         options.lora_rank > 0;
  if (result->has_working_) {
    result->working_ = ZerosLike(result->base_);
    result->working_all_ = Parameters(result->working_);
  }
  if (options.lora_rank == 0) {
    result->parameters_ = result->all_;
    result->gradients_ = result->weight_gradients_;
  }
  if (options.learn_scales) result->AddScales(pool);
  return result;
}

void TrainableWeights::FindMasks() {
  masks_.resize(all_.size());
  for (size_t i = 0; i < all_.size(); ++i) {
    if (options_.keep_zeros && all_[i].is_block_linear) {
      masks_[i] = MaskOf(all_[i].values);
    }
  }
}

void TrainableWeights::AddAdapters() {
  for (size_t i = 0; i < all_.size(); ++i) {
    const Parameter& matrix = all_[i];
    if (!matrix.is_block_linear) continue;
    const int64_t rank = options_.lora_rank;
    Adapter adapter;
    adapter.index = i;
    adapter.a = Matrix<float>(rank, matrix.cols);
    adapter.b = Matrix<float>(matrix.rows, rank);
    adapter.da = Matrix<float>(rank, matrix.cols);
    adapter.db = Matrix<float>(matrix.rows, rank);
    // As Hu et al.'s program: uniform with the variance of 1 / (3 in).
    const Random random(options_.seed, i);
    const float deviation = static_cast<float>(
        1 / std::sqrt(3.0 * static_cast<double>(matrix.cols)));
    for (size_t e = 0; e < adapter.a.span().size(); ++e) {
      adapter.a.span()[e] = deviation * random.NormalAt(e);
    }
    adapters_.push_back(std::move(adapter));
  }
  const auto add = [](const std::string& name, Matrix<float>& matrix,
                      std::vector<Parameter>* to) {
    Parameter parameter;
    parameter.name = name;
    parameter.rows = matrix.rows();
    parameter.cols = matrix.cols();
    parameter.values = matrix.span();
    parameter.matrix = true;
    to->push_back(std::move(parameter));
  };
  for (Adapter& adapter : adapters_) {
    const std::string& name = all_[adapter.index].name;
    add(name + ".lora_a", adapter.a, &parameters_);
    add(name + ".lora_b", adapter.b, &parameters_);
    add(name + ".lora_a", adapter.da, &gradients_);
    add(name + ".lora_b", adapter.db, &gradients_);
  }
}

void TrainableWeights::AddScales(ThreadPool& pool) {
  scales_.resize(all_.size());
  for (size_t i = 0; i < all_.size(); ++i) {
    const Parameter& matrix = all_[i];
    if (!matrix.is_block_linear) continue;
    scales_[i] =
        std::make_unique<LearnedScales>(*options_.scheme, ViewOf(matrix), pool);
    Parameter parameter;
    parameter.name = matrix.name + ".log_scale";
    // Not a matrix: does not decay.
    parameter.rows = scales_[i]->log_factors().rows();
    parameter.cols = scales_[i]->log_factors().cols();
    parameter.values = scales_[i]->log_factors().span();
    parameters_.push_back(parameter);
    parameter.values = scales_[i]->gradient().span();
    gradients_.push_back(std::move(parameter));
  }
}

const LearnedScales& TrainableWeights::scales(int64_t block,
                                              LinearRole role) const {
  for (size_t i = 0; i < all_.size(); ++i) {
    if (all_[i].is_block_linear && all_[i].block == block &&
        all_[i].role == role) {
      QEFF_CHECK(i < scales_.size());
      return *scales_[i];
    }
  }
  QEFF_CHECK(false);
}

void TrainableWeights::Merge(ThreadPool& pool) {
  for (size_t i = 0; i < all_.size(); ++i) {
    const absl::Span<const float> from = all_[i].values;
    const absl::Span<float> to = working_all_[i].values;
    ForElems(from.size(), pool, [&](size_t begin, size_t end) {
      std::copy(from.begin() + static_cast<ptrdiff_t>(begin),
                from.begin() + static_cast<ptrdiff_t>(end),
                to.begin() + static_cast<ptrdiff_t>(begin));
    });
  }
  for (const Adapter& adapter : adapters_) {
    const Parameter& matrix = working_all_[adapter.index];
    Matrix<float> product(matrix.rows, matrix.cols);
    SgemmArgs args;
    args.a = adapter.b.view();
    args.b = adapter.a.view();
    args.c = product.view();
    Sgemm(args, pool, products_);
    const std::vector<bool>& mask = masks_[adapter.index];
    ForElems(matrix.values.size(), pool, [&](size_t begin, size_t end) {
      for (size_t e = begin; e < end; ++e) {
        if (!mask.empty() && mask[e]) continue;
        matrix.values[e] += factor() * product.span()[e];
      }
    });
  }
}

void TrainableWeights::Project(ThreadPool& pool) {
  if (!has_working_) return;
  Merge(pool);
  for (size_t i = 0; i < working_all_.size(); ++i) {
    const Parameter& parameter = working_all_[i];
    if (options_.learn_scales && parameter.is_block_linear) {
      scales_[i]->Round(ViewOf(all_[i]), ViewOf(parameter), pool);
    } else if (options_.scheme.has_value() && parameter.is_block_linear) {
      RoundToScheme(*options_.scheme, ViewOf(parameter), pool);
    } else if (options_.bf16_weights) {
      ForElems(parameter.values.size(), pool, [&](size_t begin, size_t end) {
        for (size_t e = begin; e < end; ++e) {
          parameter.values[e] = BF16ToFloat(FloatToBF16(parameter.values[e]));
        }
      });
    }
  }
}

const ModelWeights& TrainableWeights::unrounded(ThreadPool& pool) {
  if (adapters_.empty()) return base_;
  Merge(pool);
  return working_;
}

void TrainableWeights::ZeroGradient(ThreadPool& pool) {
  for (const Parameter& gradient : weight_gradients_) {
    ForElems(gradient.values.size(), pool, [&](size_t begin, size_t end) {
      std::fill(gradient.values.begin() + static_cast<ptrdiff_t>(begin),
                gradient.values.begin() + static_cast<ptrdiff_t>(end), 0.0f);
    });
  }
}

void TrainableWeights::BackProject(ThreadPool& pool) {
  for (size_t i = 0; i < scales_.size(); ++i) {
    if (scales_[i] == nullptr) continue;
    scales_[i]->Backward(ViewOf(all_[i]), ViewOf(weight_gradients_[i]), pool);
  }
  for (size_t i = 0; i < all_.size(); ++i) {
    const std::vector<bool>& mask = masks_[i];
    if (mask.empty()) continue;
    const absl::Span<float> gradient = weight_gradients_[i].values;
    ForElems(gradient.size(), pool, [&](size_t begin, size_t end) {
      for (size_t e = begin; e < end; ++e) {
        if (mask[e]) gradient[e] = 0.0f;
      }
    });
  }
  for (Adapter& adapter : adapters_) {
    // dB = factor dW A^T, dA = factor B^T dW.
    SgemmArgs args;
    args.a = ViewOf(weight_gradients_[adapter.index]);
    args.b = adapter.a.view();
    args.b_transposed = true;
    args.c = adapter.db.view();
    Sgemm(args, pool, products_);
    args.b = args.a;
    args.b_transposed = false;
    args.a = adapter.b.view();
    args.a_transposed = true;
    args.c = adapter.da.view();
    Sgemm(args, pool, products_);
    for (Matrix<float>* gradient : {&adapter.da, &adapter.db}) {
      for (float& value : gradient->span()) value *= factor();
    }
  }
}

}  // namespace qeff
