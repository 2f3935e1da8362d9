// SPDX-License-Identifier: Apache-2.0
//
// Tiny checkpoints and broken safetensors files for tests, built from plain
// bytes and not with the writer, so that reader and writer check each other.
// Helpers that cannot do their work abort the test program.

#ifndef QEFF_IO_IO_TESTUTIL_H_
#define QEFF_IO_IO_TESTUTIL_H_

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/tensor/tensor.h"

namespace qeff {

// A tensor of a test checkpoint; values.size() is the product of the shape.
struct TestTensor {
  std::string name;
  Shape shape;
  std::vector<float> values;
};

// A new empty folder under the test's temporary folder.
std::string MakeTestFolder();

// Writes `content` to `path`, replacing what is there.
void WriteTestFile(const std::string& path, absl::string_view content);

// The content of the file `path`.
std::string ReadTestFile(const std::string& path);

// Names of the entries of `folder`, hidden ones included, sorted.
std::vector<std::string> ListTestFolder(const std::string& folder);

// The bytes of a safetensors file: the length of `header`, `header` as it is
// (no padding, valid or not), `data`.
std::string SafetensorsBytes(absl::string_view header, absl::string_view data);

// A valid safetensors file with `tensors` in the order given, converted to
// `dtype` (F32, F16 or BF16).
std::string SafetensorsBytes(const std::vector<TestTensor>& tensors,
                             DType dtype = DType::kF32);

// Creates `folder`, unless it exists, with config.json = `config_json` and
// model.safetensors = SafetensorsBytes(tensors, dtype).
void WriteTestCheckpoint(const std::string& folder,
                         absl::string_view config_json,
                         const std::vector<TestTensor>& tensors,
                         DType dtype = DType::kF32);

// Sets element `index` of tensor `name`, of type `dtype`, in the
// model.safetensors of `folder`, whose header must hold no spaces.
void PoisonTestTensor(const std::string& folder, const std::string& name,
                      int64_t index, DType dtype = DType::kBF16,
                      float value = std::numeric_limits<float>::quiet_NaN());

}  // namespace qeff

#endif  // QEFF_IO_IO_TESTUTIL_H_
