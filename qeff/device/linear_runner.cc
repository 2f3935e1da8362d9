// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/linear_runner.h"

#include <algorithm>
#include <cstddef>
#include <variant>

#include "absl/container/inlined_vector.h"
#include "qeff/kernels/elementwise/arithmetic.h"
#include "qeff/kernels/matmul_bf16/matmul_bf16.h"
#include "qeff/kernels/matmul_bf16/pack_bf16_activations.h"
#include "qeff/kernels/matmul_int/matmul_int.h"
#include "qeff/kernels/matmul_int/matmul_int_float.h"
#include "qeff/kernels/matmul_int/quantize_activations.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"

namespace qeff {
namespace internal_device {
namespace {

// Fewer bytes of weights are not worth another thread: one reads 256 KiB in
// about 13 us, which is what waking a thread takes.
constexpr int64_t kMinBytesPerRange = 256 * 1024;

int64_t SpanElems(const MatrixView<const float>& m) {
  return (m.rows() - 1) * m.stride_elems() + m.cols();
}

absl::Span<const float> Elems(MatrixView<const float> m) {
  return absl::MakeConstSpan(m.data(), static_cast<size_t>(SpanElems(m)));
}

absl::Span<float> Elems(MatrixView<float> m) {
  return absl::MakeSpan(m.data(), static_cast<size_t>(SpanElems(m)));
}

template <class T>
void GrowTo(int64_t size, AlignedArray<T>* array) {
  if (static_cast<int64_t>(array->size()) >= size) return;
  *array = AlignedArray<T>(static_cast<size_t>(size));
}

absl::Span<uint8_t> First(int64_t size, AlignedArray<uint8_t>* array) {
  QEFF_CHECK(size <= static_cast<int64_t>(array->size()));
  return array->span().subspan(0, static_cast<size_t>(size));
}

void AddBias(const DeviceLinear& linear, MatrixView<float> y) {
  if (linear.bias.empty()) return;
  for (int64_t t = 0; t < y.rows(); ++t) {
    AddInPlace(linear.bias, absl::MakeSpan(y.row(t), linear.bias.size()));
  }
}

}  // namespace

void LinearRunner::Reserve(const DeviceMatrix& weight, int64_t max_tokens) {
  // A layout of fewer tokens needs no more bytes.
  if (const auto* layout = std::get_if<PackedIntLayout>(&weight.layout)) {
    GrowTo(ActivationLayout(max_tokens, *layout).total_bytes(), &codes_);
    if (activations_ == Activations::kFloat32 && layout->sparse()) {
      GrowTo(pool_->num_threads() * layout->panel_bytes(), &panels_);
    }
  } else if (std::holds_alternative<PackedBF16Layout>(weight.layout)) {
    GrowTo(BF16ActivationLayout(max_tokens, weight.cols).total_bytes(), &bf16_);
    if (activations_ == Activations::kFloat32) {
      GrowTo(max_tokens * (weight.cols + weight.rows), &rest_);
    }
  }
}

void LinearRunner::SetInput(MatrixView<const float> x) {
  x_ = x;
  codes_group_elems_ = 0;
  bf16_made_ = false;
}

void LinearRunner::Multiply(const DeviceMatrix& weight, MatrixView<float> y) {
  QEFF_CHECK(weight.cols == x_.cols() && weight.rows == y.cols() &&
             x_.rows() == y.rows());
  if (const auto* ints = std::get_if<PackedIntLayout>(&weight.layout)) {
    MultiplyInt(*ints, weight, y);
  } else if (const auto* bf16 = std::get_if<PackedBF16Layout>(&weight.layout)) {
    activations_ == Activations::kFast ? MultiplyBF16(*bf16, weight, y)
                                       : MultiplyBF16Exactly(*bf16, weight, y);
  } else {
    MultiplyRows(weight, y);
  }
}

void LinearRunner::Multiply(const DeviceLinear& linear, MatrixView<float> y) {
  Multiply(linear.weight, y);
  AddBias(linear, y);
}

void LinearRunner::MultiplyAll(absl::Span<const LinearOutput> outputs) {
  QEFF_CHECK(outputs.size() <= static_cast<size_t>(kMaxIntProducts));
  const float input_scale = outputs[0].linear->weight.input_scale;
  const auto* first =
      std::get_if<PackedIntLayout>(&outputs[0].linear->weight.layout);
  absl::InlinedVector<IntProduct, kMaxIntProducts> products;
  for (const LinearOutput& output : outputs) {
    const DeviceMatrix& weight = output.linear->weight;
    QEFF_CHECK(weight.cols == x_.cols() && weight.rows == output.y.cols() &&
               x_.rows() == output.y.rows());
    const auto* ints = std::get_if<PackedIntLayout>(&weight.layout);
    if (activations_ != Activations::kFast || ints == nullptr ||
        first == nullptr || ints->group_elems() != first->group_elems() ||
        weight.input_scale != input_scale) {
      break;
    }
    products.push_back({PackedIntWeights{*ints, weight.bytes}, Elems(output.y),
                        output.y.stride_elems()});
  }
  if (products.size() == outputs.size()) {
    MatMulInts(products, Codes(*first, input_scale), *pool_);
  } else {
    for (const LinearOutput& output : outputs) {
      Multiply(output.linear->weight, output.y);
    }
  }
  for (const LinearOutput& output : outputs) {
    AddBias(*output.linear, output.y);
  }
}

void LinearRunner::MultiplyRows(const DeviceMatrix& weight,
                                MatrixView<float> y) {
  const WeightRows rows = weight.view();
  const int64_t row_bytes =
      weight.cols * static_cast<int64_t>(DTypeBytes(rows.dtype));
  const int64_t grain = BalancedGrain(weight.rows, pool_->num_threads(),
                                      CeilDiv(kMinBytesPerRange, row_bytes));
  const VectorRows x{Elems(x_), x_.rows(), x_.stride_elems()};
  pool_->ParallelFor(weight.rows, grain, [&](int64_t begin, int64_t end, int) {
    MatVecs(rows.Rows(begin, end - begin), x, Elems(y.Cols(begin, end - begin)),
            y.stride_elems());
  });
}

void LinearRunner::MultiplyInt(const PackedIntLayout& layout,
                               const DeviceMatrix& weight,
                               MatrixView<float> y) {
  const PackedIntWeights weights{layout, weight.bytes};
  if (activations_ == Activations::kFloat32) {
    return MatMulIntFloat(
        weights, FloatActivations{Elems(x_), x_.rows(), x_.stride_elems()},
        Elems(y), y.stride_elems(), *pool_, panels_.span());
  }
  MatMulInt(weights, Codes(layout, weight.input_scale), Elems(y),
            y.stride_elems(), *pool_);
}

QuantizedActivations LinearRunner::Codes(const PackedIntLayout& layout,
                                         float input_scale) {
  const ActivationLayout activations(x_.rows(), layout);
  const absl::Span<uint8_t> codes = First(activations.total_bytes(), &codes_);
  if (codes_group_elems_ != layout.group_elems() ||
      codes_input_scale_ != input_scale) {
    times_->Add(Op::kProduct);  // of an earlier layer with this input
    if (input_scale == 0) {
      QuantizeActivations(activations, Elems(x_), x_.stride_elems(), codes,
                          *pool_);
    } else {
      QuantizeActivationsFixed(activations, input_scale, Elems(x_),
                               x_.stride_elems(), codes, *pool_);
    }
    codes_group_elems_ = layout.group_elems();
    codes_input_scale_ = input_scale;
    times_->Add(Op::kQuantize);
  }
  return QuantizedActivations{activations, codes};
}

void LinearRunner::MultiplyBF16(const PackedBF16Layout& layout,
                                const DeviceMatrix& weight,
                                MatrixView<float> y) {
  const BF16ActivationLayout activations(x_.rows(), weight.cols);
  const absl::Span<uint8_t> packed = First(activations.total_bytes(), &bf16_);
  if (!bf16_made_) {
    PackBF16Activations(activations, Elems(x_), x_.stride_elems(), packed,
                        *pool_);
    bf16_made_ = true;
    times_->Add(Op::kQuantize);
  }
  MatMulBF16(PackedBF16Weights{layout, weight.bytes},
             BF16Activations{activations, packed}, Elems(y), y.stride_elems(),
             *pool_);
}

// Each part leaves less than 2^-8 of what it is taken from, so that three
// hold all 24 bits of a float.
void LinearRunner::MultiplyBF16Exactly(const PackedBF16Layout& layout,
                                       const DeviceMatrix& weight,
                                       MatrixView<float> y) {
  const int64_t tokens = x_.rows(), cols = x_.cols();
  const BF16ActivationLayout activations(tokens, cols);
  const absl::Span<uint8_t> packed = First(activations.total_bytes(), &bf16_);
  QEFF_CHECK(static_cast<int64_t>(rest_.size()) >= tokens * (cols + y.cols()));
  const MatrixView<float> rest(rest_.data(), tokens, cols);
  const MatrixView<float> product(rest_.data() + tokens * cols, tokens,
                                  y.cols());
  for (int64_t t = 0; t < tokens; ++t) {
    std::copy_n(x_.row(t), cols, rest.row(t));
    std::fill_n(y.row(t), y.cols(), 0.0f);
  }
  for (int part = 0; part < 3; ++part) {
    PackBF16Activations(activations, Elems(rest), cols, packed, *pool_);
    MatMulBF16(PackedBF16Weights{layout, weight.bytes},
               BF16Activations{activations, packed}, Elems(product),
               product.stride_elems(), *pool_);
    for (float& value : Elems(rest)) value -= BF16ToFloat(FloatToBF16(value));
    for (int64_t t = 0; t < tokens; ++t) {
      AddInPlace(
          absl::MakeConstSpan(product.row(t), static_cast<size_t>(y.cols())),
          absl::MakeSpan(y.row(t), static_cast<size_t>(y.cols())));
    }
  }
  bf16_made_ = false;
}

}  // namespace internal_device
}  // namespace qeff
