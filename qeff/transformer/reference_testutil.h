// SPDX-License-Identifier: Apache-2.0
//
// Tiny random models of every family, and their logits by the plainest code in
// double precision, written from the definitions of the families: it reads
// config.json and tensors by itself and shares nothing with what it checks.

#ifndef QEFF_TRANSFORMER_REFERENCE_TESTUTIL_H_
#define QEFF_TRANSFORMER_REFERENCE_TESTUTIL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/io_testutil.h"
#include "qeff/tensor/tensor.h"
#include "qeff/util/json.h"

namespace qeff {

struct TestModel {
  Json config;
  std::vector<TestTensor> tensors;

  // Adds ("name", shape) with zeros; for tests of leftovers.
  void Add(const std::string& name, const Shape& shape);
  void Remove(const std::string& name);
  TestTensor* Find(const std::string& name);
};

// Two layers, six heads, vocabulary 20. `changes` is a JSON object whose
// members replace those of the family's config (null removes one). `prefix` is
// in front of all tensors but lm_head ("model.", "transformer." or "").
TestModel MakeTestModel(const std::string& family,
                        const std::string& changes = "{}",
                        bool with_prefix = true);

// Writes the model into a new folder and opens it.
std::shared_ptr<const Checkpoint> OpenTestModel(const TestModel& model,
                                                DType dtype = DType::kF32);

// Logits [tokens, vocab] of one sequence.
Matrix<double> ReferenceLogits(const TestModel& model,
                               const std::vector<int32_t>& tokens);

// ||a - b|| / ||b||.
double RelativeError(const Matrix<float>& a, const Matrix<double>& b);

// `count` token ids below 20 that do not repeat soon.
std::vector<int32_t> TestTokens(int64_t count);

}  // namespace qeff

#endif  // QEFF_TRANSFORMER_REFERENCE_TESTUTIL_H_
