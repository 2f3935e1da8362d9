// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/onnx/export_onnx.h"

#include <string>
#include <vector>

#include "qeff/util/status.h"
#include "tools/commands/export_format.h"

namespace qeff {
namespace {

class OnnxFormat : public ExportFormat {
 public:
  std::vector<std::string> names() const override { return {"onnx"}; }
  std::string description() const override {
    return "onnx: one graph for prefill and decode with a retained cache, with "
           "QEfficient's inputs and outputs, or one that gives hidden states. "
           "Weights of 2, 4 and 8 bits stay codes (MatMulNBits), w8a8_static "
           "becomes QuantizeLinear and DequantizeLinear; others become "
           "float32. In the model's own folder the file refers to its weights, "
           "elsewhere FILE.data holds them.";
  }
  std::vector<std::string> flag_names() const override {
    return {"variant", "graph", "continuous_batching", "speculative_target",
            "compute_context_lengths"};
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->BeginSection("ONNX");
    flags->AddChoice("variant", &variant_, {"portable", "aic"},
                     "onnx: for ONNX Runtime and others, or for Cloud AI's "
                     "compiler; they differ in constants only.");
    flags->AddChoice(
        "graph", &graph_, {"causal_lm", "hidden_states", "mean", "last", "cls"},
        "onnx: what the graph gives: logits, with a cache; or hidden states "
        "after the last norm: all, their mean, that of the last or of the "
        "first token.");
    flags->Add("continuous_batching", &options_.continuous_batching, "",
               "onnx: an input names the slots of the cache.");
    flags->Add("speculative_target", &options_.speculative_target, "",
               "onnx: an input says of how many tokens the logits are.");
    flags->Add("compute_context_lengths", &options_.compute_context_lengths, "",
               "onnx: an input says how much of the context is attended to.");
  }
  absl::Status Check() const override {
    if (graph_ == "causal_lm" ||
        (variant_ != "aic" && !options_.continuous_batching &&
         !options_.speculative_target && !options_.compute_context_lengths)) {
      return absl::OkStatus();
    }
    return UsageError(
        "--variant=aic, --continuous_batching, --speculative_target and "
        "--compute_context_lengths go with --graph=causal_lm");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const Transformer& model,
                           const std::string&,
                           const std::string& output) override {
    options_.variant =
        variant_ == "aic" ? OnnxVariant::kAic : OnnxVariant::kPortable;
    QEFF_ASSIGN_OR_RETURN(
        const OnnxReport report,
        graph_ == "causal_lm"
            ? ExportCausalLmOnnx(model, options_, output)
            : ExportHiddenStatesOnnx(model,
                                     graph_ == "mean"   ? OnnxPooling::kMean
                                     : graph_ == "last" ? OnnxPooling::kLast
                                     : graph_ == "cls"  ? OnnxPooling::kCls
                                                        : OnnxPooling::kNone,
                                     output));
    for (const std::string& layer : report.dequantized) {
      std::fprintf(env.out, "%s is float32\n", layer.c_str());
    }
    for (const auto& [name, count] : report.operators) {
      std::fprintf(env.out, "%-16s %lld\n", name.c_str(),
                   static_cast<long long>(count));
    }
    std::fprintf(
        env.out, "%s: %zu nodes, %.1f MB%s\n", output.c_str(),
        report.nodes.size(),
        static_cast<double>(report.graph_bytes + report.data_bytes) / 1e6,
        report.in_place ? ", beside the model's own weights" : "");
    return Json{{"graph_bytes", report.graph_bytes},
                {"data_bytes", report.data_bytes},
                {"in_place", report.in_place},
                {"operators", report.operators},
                {"dequantized", report.dequantized}};
  }

 private:
  std::string variant_ = "portable";
  std::string graph_ = "causal_lm";
  CausalLmOptions options_;
};

}  // namespace

std::unique_ptr<ExportFormat> MakeOnnxFormat() {
  return std::make_unique<OnnxFormat>();
}

}  // namespace qeff
