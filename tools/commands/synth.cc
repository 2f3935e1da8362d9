// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/synth.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "qeff/transformer/known_shapes.h"
#include "qeff/transformer/model_map.h"
#include "qeff/util/progress.h"
#include "qeff/util/status.h"
#include "tools/commands/commands.h"
#include "tools/interrupt.h"

namespace qeff {
namespace {

class SynthCommand : public Command {
 public:
  absl::string_view name() const override { return "synth"; }
  absl::string_view summary() const override {
    return "Writes a model of random weights in a well-known shape.";
  }
  absl::string_view description() const override {
    return "Makes a checkpoint to measure speed and memory with, and a "
           "byte-level tokenizer for it. Its text and its perplexity mean "
           "nothing. The same flags give the same bytes.";
  }
  absl::string_view examples() const override {
    return "synth --shape=tiny --output=random\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired(
        "shape", &shape_, "NAME",
        absl::StrCat("One of ", absl::StrJoin(KnownShapeNames(), ", "), "."));
    flags->AddRequired("output", &output_, "DIR",
                       "The folder to write; must not exist.");
    flags->AddChoice("dtype", &dtype_, {"bf16", "f16", "f32"},
                     "Type of the weights.");
    flags->Add("layers", &layers_, "N",
               "Number of layers; 0 is the shape's own.");
    flags->Add("outliers", &outliers_, "",
               "Adds heavy-tailed weights, large norm weights and duplicated "
               "channels.");
    flags->Add("seed", &seed_, "N", "Seed of the random weights.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    absl::StatusOr<Json> config = KnownShapeConfig(shape_);
    if (!config.ok()) {
      return UsageError(absl::StrCat("--", config.status().message()));
    }
    if (layers_ < 0 || layers_ > 10000) {
      return UsageError("--layers: expected 0 to 10000");
    }
    if (layers_ > 0) (*config)[NumLayersKey(*config)] = layers_;
    SynthOptions options;
    options.seed = seed_;
    options.outliers = outliers_;
    options.dtype = dtype_ == "f32"   ? DType::kF32
                    : dtype_ == "f16" ? DType::kF16
                                      : DType::kBF16;
    QEFF_ASSIGN_OR_RETURN(const ModelMap map,
                          MapConfig(*config, "config.json",
                                    [](absl::string_view) { return false; }));
    int64_t elems = map.spec.vocab_size * map.spec.hidden_size;
    for (const LinearModule& linear : map.Linears()) {
      elems += linear.out_features * linear.in_features;
    }
    QEFF_RETURN_IF_ERROR(Write(*config, options, elems, env.pool));
    std::fprintf(env.out, "wrote %s: %s, %lld parameters of %s\n",
                 output_.c_str(), shape_.c_str(), static_cast<long long>(elems),
                 dtype_.c_str());
    return Json{{"output", output_}, {"shape", shape_}, {"dtype", dtype_}};
  }

 private:
  absl::Status Write(const Json& config, const SynthOptions& options,
                     int64_t elems, ThreadPool* pool) const {
    const InterruptScope interrupt;
    Progress progress("synth", elems);
    const absl::Status status =
        WriteSynthCheckpoint(config, options, output_, pool, [&](int64_t done) {
          progress.Advance(done);
          return interrupt.Check().ok();
        });
    return absl::IsCancelled(status) ? interrupt.Check() : status;
  }

  std::string shape_;
  std::string output_;
  std::string dtype_ = "bf16";
  int64_t layers_ = 0;
  uint64_t seed_ = 1;
  bool outliers_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeSynthCommand() {
  return std::make_unique<SynthCommand>();
}

}  // namespace qeff
