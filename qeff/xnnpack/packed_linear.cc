// SPDX-License-Identifier: Apache-2.0

#include "qeff/xnnpack/packed_linear.h"

#include <xnnpack.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <utility>

#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

static_assert(PackedLinear::kReadBeyondElems * sizeof(float) >=
              XNN_EXTRA_BYTES);

// Columns that XNNPACK's widest kernel computes at a time; its packed weights
// are padded to a multiple.
constexpr int64_t kColumnTile = 16;

// Packed weights of one shard: half of a 1 MiB second-level cache, since a
// shard is read once for every few rows of x.
constexpr int64_t kShardElems = int64_t{1} << 17;

absl::Status ToStatus(xnn_status status) {
  switch (status) {
    case xnn_status_success:
      return absl::OkStatus();
    case xnn_status_out_of_memory:
      return absl::ResourceExhaustedError("out of memory for packed weights");
    case xnn_status_unsupported_hardware:
      return absl::UnimplementedError("XNNPACK: processor not supported");
    default:
      return absl::InternalError(
          absl::StrCat("XNNPACK: status ", static_cast<int>(status)));
  }
}

// Columns of a shard: few enough for the cache and for every thread to get
// some, in whole tiles.
int64_t ShardColumns(int64_t out, int64_t in, int num_threads) {
  const int64_t fitting = kShardElems / in / kColumnTile * kColumnTile;
  const int64_t fair =
      RoundUp(CeilDiv(out, int64_t{2} * num_threads), kColumnTile);
  return std::max(kColumnTile, std::min(fitting, fair));
}

// Multiplications, and weights to pack, below which waking another thread does
// not pay: some microseconds.
constexpr int64_t kMinWork = int64_t{1} << 17;
constexpr int64_t kMinPackedElems = int64_t{1} << 14;

// Keeps the first error that any thread reports.
class FirstError {
 public:
  void Report(xnn_status status) {
    if (status == xnn_status_success) return;
    xnn_status expected = xnn_status_success;
    status_.compare_exchange_strong(expected, status);
  }
  absl::Status status() const { return ToStatus(status_.load()); }

 private:
  std::atomic<xnn_status> status_{xnn_status_success};
};

}  // namespace

void PackedLinear::OperatorDeleter::operator()(Operator* op) const {
  xnn_delete_operator(reinterpret_cast<xnn_operator_t>(op));
}

uint64_t PackedLinear::PackedBytes(int64_t out, int64_t in) {
  return static_cast<uint64_t>(RoundUp(out, kColumnTile) * (in + 1)) *
         sizeof(float);
}

absl::StatusOr<PackedLinear> PackedLinear::Create(
    MatrixView<const float> weight, absl::Span<const float> bias,
    ThreadPool& pool, int64_t output_stride_elems) {
  PackedLinear linear;
  linear.out_ = weight.rows();
  linear.in_ = weight.cols();
  linear.output_stride_elems_ =
      output_stride_elems == 0 ? weight.rows() : output_stride_elems;
  QEFF_CHECK(linear.out_ >= 1 && linear.in_ >= 1);
  QEFF_CHECK(weight.stride_elems() == linear.in_);
  QEFF_CHECK(linear.output_stride_elems_ >= linear.out_);
  QEFF_CHECK(bias.empty() || static_cast<int64_t>(bias.size()) == linear.out_);
  QEFF_RETURN_IF_ERROR(ToStatus(xnn_initialize(/*allocator=*/nullptr)));

  const int64_t columns =
      ShardColumns(linear.out_, linear.in_, pool.num_threads());
  for (int64_t begin = 0; begin < linear.out_; begin += columns) {
    linear.shards_.push_back(
        {begin, std::min(columns, linear.out_ - begin), nullptr});
  }
  const int64_t grain =
      std::max<int64_t>(1, kMinPackedElems / (columns * linear.in_));
  FirstError error;
  pool.ParallelFor(
      static_cast<int64_t>(linear.shards_.size()), grain,
      [&](int64_t first, int64_t last, int) {
        for (int64_t i = first; i < last; ++i) {
          Shard& shard = linear.shards_[static_cast<size_t>(i)];
          const size_t in = static_cast<size_t>(linear.in_);
          xnn_operator_t op = nullptr;
          error.Report(xnn_create_fully_connected_nc_f32(
              in, static_cast<size_t>(shard.columns), /*input_stride=*/in,
              static_cast<size_t>(linear.output_stride_elems_),
              weight.row(shard.begin),
              bias.empty() ? nullptr : bias.data() + shard.begin,
              -std::numeric_limits<float>::infinity(),
              std::numeric_limits<float>::infinity(), /*flags=*/0, &op));
          shard.op.reset(reinterpret_cast<Operator*>(op));
        }
      });
  QEFF_RETURN_IF_ERROR(error.status());
  return linear;
}

absl::Status PackedLinear::Run(MatrixView<const float> x, MatrixView<float> y,
                               ThreadPool& pool) {
  QEFF_CHECK(x.rows() == y.rows() && x.cols() == in_ && y.cols() == out_);
  QEFF_CHECK(x.rows() <= 1 || (x.stride_elems() == in_ &&
                               y.stride_elems() == output_stride_elems_));
  if (x.rows() == 0) return absl::OkStatus();
  const int64_t num_shards = static_cast<int64_t>(shards_.size());
  const int64_t work = shards_[0].columns * in_ * x.rows();
  const int64_t grain = std::max<int64_t>(1, kMinWork / work);
  FirstError error;
  pool.ParallelFor(num_shards, grain, [&](int64_t first, int64_t last, int) {
    for (int64_t i = first; i < last; ++i) {
      const Shard& shard = shards_[static_cast<size_t>(i)];
      const auto op = reinterpret_cast<xnn_operator_t>(shard.op.get());
      // The operator is this thread's alone: no pool inside.
      const xnn_status status = xnn_setup_fully_connected_nc_f32(
          op, static_cast<size_t>(x.rows()), x.data(), y.data() + shard.begin,
          /*threadpool=*/nullptr);
      error.Report(status);
      if (status != xnn_status_success) continue;
      error.Report(xnn_run_operator(op, /*threadpool=*/nullptr));
    }
  });
  return error.status();
}

}  // namespace qeff
