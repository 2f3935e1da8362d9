// SPDX-License-Identifier: Apache-2.0
//
// Models for the tests of this package.

#ifndef QEFF_QUANT_QUANT_TESTUTIL_H_
#define QEFF_QUANT_QUANT_TESTUTIL_H_

#include <cstdlib>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/tensor/dtype.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/model_map.h"
#include "qeff/transformer/synth.h"
#include "qeff/util/check.h"

namespace qeff {

// A folder with random weights of a known shape.
inline std::string SynthModel(const std::string& shape,
                              DType dtype = DType::kBF16) {
  const std::string folder = MakeTestFolder() + "/model";
  SynthOptions options;
  options.dtype = dtype;
  const auto pool = CreateThreadPool(1).value();
  const absl::Status status = WriteSynthCheckpoint(
      KnownShapeConfig(shape).value(), options, folder, pool.get());
  EXPECT_TRUE(status.ok()) << status;
  return folder;
}

// The same of a llama whose rows are whole blocks of ggml's, 256 weights, but
// for those of down_proj, 172.
inline std::string SynthBlockModel(DType dtype = DType::kBF16) {
  const std::string folder = MakeTestFolder() + "/model";
  SynthOptions options;
  options.dtype = dtype;
  Json config = KnownShapeConfig("tiny").value();
  config["hidden_size"] = 256;
  config["head_dim"] = 64;
  const auto pool = CreateThreadPool(1).value();
  const absl::Status status =
      WriteSynthCheckpoint(config, options, folder, pool.get());
  EXPECT_TRUE(status.ok()) << status;
  return folder;
}

// An open model with its mapping.
struct TestModel {
  explicit TestModel(const std::string& folder)
      : checkpoint(Checkpoint::Open(folder).value()),
        map(MapModel(*checkpoint).value()) {}

  absl::StatusOr<QuantizePlan> Plan(const QuantizeOptions& options) const {
    return PlanQuantization(*checkpoint, map, options);
  }

  std::shared_ptr<const Checkpoint> checkpoint;
  ModelMap map;
};

inline QuantizeOptions OptionsFor(const std::string& scheme) {
  QuantizeOptions options;
  options.scheme = ParseQuantScheme(scheme).value();
  return options;
}

// The tensor whose name ends in `suffix` (checkpoints of a family differ in
// their prefix). Aborts without one.
inline const PlannedTensor& FindPlanned(const QuantizePlan& plan,
                                        absl::string_view suffix) {
  for (const PlannedTensor& tensor : plan.tensors) {
    if (absl::EndsWith(tensor.name, suffix)) return tensor;
  }
  QEFF_CHECK(false);
  std::abort();
}

}  // namespace qeff

#endif  // QEFF_QUANT_QUANT_TESTUTIL_H_
