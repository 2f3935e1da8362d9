// SPDX-License-Identifier: Apache-2.0

#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/eval/tensor_statistics.h"
#include "qeff/tokenizer/tokenizer.h"
#include "qeff/transformer/count_parameters.h"
#include "qeff/util/progress.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/commands/model_folder.h"
#include "tools/commands/sanity_flag.h"

namespace qeff {
namespace {

class InspectCommand : public Command {
 public:
  absl::string_view name() const override { return "inspect"; }
  absl::string_view summary() const override {
    return "Shows what a model folder holds.";
  }
  absl::string_view description() const override {
    return "Prints family, shape, parameters, bytes and bits per weight, and "
           "for every tensor its name, type, shape, mean, standard deviation "
           "and largest magnitude. Values that are not finite are counted and "
           "left out of the statistics. Tensors of integers (packed codes) "
           "have no statistics.\n\n"
           "With --calibration it says whether the weights work: matrices "
           "that are stored transposed or in another family's order look the "
           "same in every file, but the perplexity on a text is then near or "
           "above that of guessing among all tokens.";
  }
  absl::string_view examples() const override {
    return "inspect --model=llama\n"
           "inspect --model=llama --calibration=text.txt --strict\n"
           "inspect --model=model.gguf --json=tensors.json\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "DIR",
                       "The model's folder, or a GGUF file.");
    flags->Add("calibration", &text_, "FILE",
               "UTF-8 text that is like what the model reads: the perplexity "
               "of its beginning is measured.");
    sanity_.Declare(flags);
  }
  absl::Status Check(const FlagTable&) override {
    if (!sanity_.strict() || !text_.empty()) return absl::OkStatus();
    return UsageError("--strict needs --calibration");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    QEFF_ASSIGN_OR_RETURN(const ModelFolder folder, ModelFolder::Open(model_));
    QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> model,
                          LoadTransformer(folder.path()));
    Json json = Summarize(*model, env);
    json["warnings"] = model->checkpoint().warnings();
    for (const std::string& warning : model->checkpoint().warnings()) {
      std::fprintf(env.out, "warning: %s\n\n", warning.c_str());
    }
    QEFF_ASSIGN_OR_RETURN(json["tensors"], Tensors(*model, env));
    if (!text_.empty()) {
      QEFF_ASSIGN_OR_RETURN(json["calibration"], Sanity(model, env));
    }
    return json;
  }

 private:
  absl::StatusOr<Json> Sanity(const std::shared_ptr<const Transformer>& model,
                              const CommandEnv& env) const {
    QEFF_ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(*model));
    QEFF_ASSIGN_OR_RETURN(
        const ModelSanity sanity,
        sanity_.CheckBeginning(model, *tokenizer, text_, env));
    std::fprintf(env.out,
                 "\nperplexity on %lld tokens of %s: %.4f (of guessing: "
                 "%lld)\n",
                 static_cast<long long>(sanity.tokens), text_.c_str(),
                 sanity.perplexity, static_cast<long long>(sanity.vocab_size));
    return Json{{"tokens", sanity.tokens},
                {"perplexity", sanity.perplexity},
                {"perplexity_of_guessing", sanity.vocab_size},
                {"sane", sanity.sane()}};
  }

  static Json Summarize(const Transformer& model, const CommandEnv& env) {
    const TransformerSpec& spec = model.spec();
    const int64_t parameters = CountParameters(model.map());
    const uint64_t bytes = model.checkpoint().weight_bytes();
    const double bits_per_weight =
        static_cast<double>(bytes) * 8 / static_cast<double>(parameters);
    Json shape{{"hidden_size", spec.hidden_size},
               {"num_layers", spec.num_layers},
               {"num_heads", spec.num_heads},
               {"num_kv_heads", spec.num_kv_heads},
               {"head_dim", spec.head_dim},
               {"ffn_size", spec.ffn_size},
               {"vocab_size", spec.vocab_size},
               {"max_positions", spec.max_positions},
               {"tied_lm_head", spec.tied_lm_head}};
    std::fprintf(env.out, "%-16s %s\n", "family", spec.family.c_str());
    for (const auto& [key, value] : shape.items()) {
      std::fprintf(env.out, "%-16s %s\n", key.c_str(), value.dump().c_str());
    }
    std::fprintf(env.out, "%-16s %lld\n%-16s %llu\n%-16s %.4f\n\n",
                 "parameters", static_cast<long long>(parameters), "bytes",
                 static_cast<unsigned long long>(bytes), "bits per weight",
                 bits_per_weight);
    return Json{{"family", spec.family},
                {"shape", shape},
                {"parameters", parameters},
                {"bytes", bytes},
                {"bits_per_weight", bits_per_weight}};
  }

  static absl::StatusOr<Json> Tensors(const Transformer& model,
                                      const CommandEnv& env) {
    const Checkpoint& checkpoint = model.checkpoint();
    std::fprintf(env.out, "%-48s %-8s %-16s %12s %12s %12s\n", "tensor",
                 "dtype", "shape", "mean", "std", "max|w|");
    Json tensors = Json::array();
    ProgressOptions progress_options;
    progress_options.unit = "B";
    Progress progress("inspect",
                      static_cast<int64_t>(checkpoint.weight_bytes()),
                      progress_options);
    for (const TensorInfo& info : checkpoint.tensors()) {
      QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint.Get(info.name));
      Json row{{"name", info.name},
               {"dtype", std::string(DTypeName(info.dtype))},
               {"shape", std::vector<int64_t>(info.shape.dims().begin(),
                                              info.shape.dims().end())}};
      std::string line =
          absl::StrFormat("%-48s %-8s %-16s", info.name, DTypeName(info.dtype),
                          info.shape.ToString());
      if (IsFloating(info.dtype)) {
        const TensorStatistics s = ComputeStatistics(
            view, env.pool,
            [&](const TensorView& part) { checkpoint.Release(part); });
        row["mean"] = s.mean;
        row["standard_deviation"] = s.standard_deviation;
        row["max_abs"] = s.max_abs;
        row["not_finite"] = s.not_finite;
        absl::StrAppendFormat(&line, " %12.4g %12.4g %12.4g", s.mean,
                              s.standard_deviation, s.max_abs);
        if (s.not_finite > 0) {
          absl::StrAppend(&line, "  ", s.not_finite, " not finite");
        }
      }
      progress.Clear();
      std::fprintf(env.out, "%s\n", line.c_str());
      std::fflush(env.out);
      tensors.push_back(std::move(row));
      progress.Advance(static_cast<int64_t>(view.bytes.size()));
    }
    return tensors;
  }

  std::string model_;
  std::string text_;
  SanityFlag sanity_;
};

}  // namespace

std::unique_ptr<Command> MakeInspectCommand() {
  return std::make_unique<InspectCommand>();
}

}  // namespace qeff
