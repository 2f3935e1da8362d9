// SPDX-License-Identifier: Apache-2.0

#include <cstdio>
#include <string>
#include <vector>

#include "qeff/export/write_quantized_folder.h"
#include "qeff/format/quantized_layout.h"
#include "qeff/util/status.h"
#include "tools/commands/export_format.h"

namespace qeff {
namespace {

constexpr QuantizedLayout kLayouts[] = {
    QuantizedLayout::kGptq, QuantizedLayout::kGptqV2, QuantizedLayout::kAwq,
    QuantizedLayout::kCompressedTensors};

class FolderFormat : public ExportFormat {
 public:
  std::vector<std::string> names() const override {
    std::vector<std::string> names;
    for (const QuantizedLayout layout : kLayouts) {
      names.emplace_back(QuantizedLayoutName(layout));
    }
    return names;
  }
  std::string description() const override {
    return "gptq, gptq_v2, awq, compressed-tensors: a model folder for "
           "AutoGPTQ, GPTQModel, AutoAWQ, vLLM and Transformers. For models "
           "that are quantized: the codes, scales and zero points are the "
           "same, and compared when they are written. What a format cannot "
           "hold is an error that names the formats that can: gptq has 2, 3, 4 "
           "and 8 bits, awq 4, both one group size for all layers and scales "
           "of float16. An lm_head that does not fit becomes float32.";
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const Transformer& model,
                           const std::string& format,
                           const std::string& output) override {
    QuantizedLayout layout = kLayouts[0];
    for (const QuantizedLayout candidate : kLayouts) {
      if (QuantizedLayoutName(candidate) == format) layout = candidate;
    }
    QEFF_ASSIGN_OR_RETURN(const QuantizedFolderReport report,
                          WriteQuantizedFolder(model, layout, output));
    std::fprintf(env.out, "%s: %lld layers, %.1f MB, every weight as it was\n",
                 output.c_str(), static_cast<long long>(report.layers),
                 static_cast<double>(report.weight_bytes) / 1e6);
    if (!report.lm_head_floats.empty()) {
      std::fprintf(env.out, "lm_head has the same values as F32: %s\n",
                   report.lm_head_floats.c_str());
    }
    return Json{{"layers", report.layers},
                {"weight_bytes", report.weight_bytes}};
  }
};

}  // namespace

std::unique_ptr<ExportFormat> MakeFolderFormat() {
  return std::make_unique<FolderFormat>();
}

}  // namespace qeff
