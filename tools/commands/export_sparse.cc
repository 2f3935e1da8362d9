// SPDX-License-Identifier: Apache-2.0

#include <cstdio>
#include <string>
#include <vector>

#include "qeff/export/write_sparse_24_folder.h"
#include "qeff/io/sparse_24_tensor.h"
#include "qeff/util/status.h"
#include "tools/commands/export_format.h"

namespace qeff {
namespace {

class SparseFormat : public ExportFormat {
 public:
  std::vector<std::string> names() const override { return {kSparse24Format}; }
  std::string description() const override {
    return "sparse-24-bitmask: a model folder of floats for versions of "
           "compressed-tensors and vLLM up to 2025. Layers that were pruned to "
           "2:4 (qeff prune --pattern=2:4) take 9 of 16 bits; others stay as "
           "they are.";
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const Transformer& model,
                           const std::string&,
                           const std::string& output) override {
    QEFF_ASSIGN_OR_RETURN(const Sparse24FolderReport report,
                          WriteSparse24Folder(model, output));
    for (const std::string& layer : report.kept) {
      std::fprintf(env.out, "%s is not 2:4\n", layer.c_str());
    }
    std::fprintf(env.out, "%s: %lld layers, %.1f MB\n", output.c_str(),
                 static_cast<long long>(report.layers),
                 static_cast<double>(report.weight_bytes) / 1e6);
    return Json{{"layers", report.layers},
                {"kept", report.kept},
                {"weight_bytes", report.weight_bytes}};
  }
};

}  // namespace

std::unique_ptr<ExportFormat> MakeSparseFormat() {
  return std::make_unique<SparseFormat>();
}

}  // namespace qeff
