// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/export_aic.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/export/aic/cache_entry.h"
#include "qeff/export/aic/param_hash.h"
#include "qeff/export/aic/param_json.h"
#include "qeff/export/aic/read_graph.h"
#include "qeff/export/onnx/decoder_graph.h"
#include "qeff/export/onnx/export_onnx.h"
#include "qeff/io/model_fingerprint.h"
#include "qeff/util/atomic_folder.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr int kHashSchema = 1;

// The architecture in config.json, or its model_type.
absl::StatusOr<std::string> NameOf(const Json& config) {
  std::string name = config.value("model_type", std::string());
  const auto list = config.find("architectures");
  if (list != config.end() && list->is_array() && !list->empty() &&
      list->front().is_string()) {
    name = list->front().get<std::string>();
  }
  if (!IsPlainFileName(name)) {
    return InvalidInputError(
        "config.json: architectures: expected a name, found ",
        JsonForMessage(name));
  }
  return name;
}

CausalLmOptions GraphFor(const AicShapes& shapes) {
  CausalLmOptions options;
  options.variant = OnnxVariant::kAic;
  options.continuous_batching = shapes.full_batch_size > 0;
  options.speculative_target = !shapes.num_speculative_tokens.empty();
  options.compute_context_lengths = !shapes.comp_ctx_lengths_prefill.empty() ||
                                    !shapes.comp_ctx_lengths_decode.empty();
  return options;
}

}  // namespace

absl::StatusOr<AicExport> ExportAic(const Transformer& model,
                                    const AicShapes& shapes,
                                    const std::string& qeff_version,
                                    const std::string& root) {
  if (shapes.ctx_len > model.spec().max_positions) {
    return InvalidInputError("ctx_len: the model has positions for ",
                             model.spec().max_positions, " tokens, found ",
                             shapes.ctx_len);
  }
  const CausalLmOptions options = GraphFor(shapes);
  const Json& config = model.checkpoint().config();
  QEFF_ASSIGN_OR_RETURN(const std::string name, NameOf(config));
  QEFF_ASSIGN_OR_RETURN(const std::string weights,
                        ModelContentFingerprint(model.checkpoint()));
  const Json params = {
      {"schema", kHashSchema},
      {"qeff_version", qeff_version},
      {"config", config},
      {"weights", weights},
      {"continuous_batching", options.continuous_batching},
      {"speculative_target", options.speculative_target},
      {"compute_context_lengths", options.compute_context_lengths}};
  QEFF_ASSIGN_OR_RETURN(const std::string hash, HashParams(params));
  const std::string folder =
      absl::StrCat(root, "/", name, "/", name, "-", hash);
  const std::string path = absl::StrCat(folder, "/", name, ".onnx");
  AicExport result;
  result.from_cache = LookAtEntry(folder) == EntryState::kComplete;
  if (result.from_cache) {
    MarkUsed(folder);
  } else {
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<EntryBuilder> entry,
                          EntryBuilder::Begin(folder));
    QEFF_ASSIGN_OR_RETURN(OnnxReport report,
                          ExportCausalLmOnnx(model, options, path));
    QEFF_RETURN_IF_ERROR(
        entry->Write("hashed_export_params.json", IndentedJson(params)));
    QEFF_RETURN_IF_ERROR(entry->Commit());
    result.dequantized = std::move(report.dequantized);
  }
  QEFF_ASSIGN_OR_RETURN(result.graph, ReadAicGraph(path));
  result.graph.identity = hash;
  result.graph.model_config = config;
  return result;
}

}  // namespace qeff
