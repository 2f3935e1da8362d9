// SPDX-License-Identifier: Apache-2.0
//
// Tiny quantized model folders, for the tests of what exports them.

#ifndef QEFF_EXPORT_EXPORT_TESTUTIL_H_
#define QEFF_EXPORT_EXPORT_TESTUTIL_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/tensor/dtype.h"
#include "qeff/tokenizer/tables.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/transformer/transformer.h"

namespace qeff {

// A llama whose layers have sides of 96, 64 and 32, so that all widths of GPTQ
// fit.
TestModel WideLlama();

// Opens the model in `folder`.
std::shared_ptr<const Transformer> LoadFolder(const std::string& folder);

// Writes `model`, its weights as `dtype`, quantizes it, and returns the folder.
std::string QuantizedFolder(const TestModel& model,
                            const QuantizeOptions& options,
                            DType dtype = DType::kF32);

// Logits of the model in `folder` on the host, of one short sequence.
std::vector<float> HostLogits(const std::string& folder);

// A tokenizer of one token, for files that want one.
TokenizerTables SomeTokenizer();

// The weights of all linear layers.
std::vector<std::vector<float>> LinearValues(const Transformer& model);

// A copy of the model in `folder` with `bytes` in place of what these tensors
// hold, and with those tensors of F16 added that it does not have, as vectors.
std::string FolderWith(const std::string& folder,
                       const std::map<std::string, std::string>& bytes);

}  // namespace qeff

#endif  // QEFF_EXPORT_EXPORT_TESTUTIL_H_
