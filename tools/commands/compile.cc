// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/compile/compile_in_memory.h"
#include "qeff/compile/package_size.h"
#include "qeff/compile/package_writer.h"
#include "qeff/compile/sparse_matrix.h"
#include "qeff/device/package/device_package.h"
#include "qeff/device/package/model_tensors.h"
#include "qeff/device/package/package_header.h"
#include "qeff/util/progress.h"
#include "qeff/util/status.h"
#include "tools/commands/cache_root.h"
#include "tools/commands/commands.h"
#include "tools/commands/compile_aic.h"
#include "tools/commands/engine_flags.h"
#include "tools/commands/model_folder.h"
#include "tools/interrupt.h"
#include "tools/version.h"

namespace qeff {
namespace {

class CompileCommand : public Command {
 public:
  absl::string_view name() const override { return "compile"; }
  absl::string_view summary() const override {
    return "Makes a program of a model, for CPUs or for Cloud AI.";
  }
  absl::string_view description() const override {
    return "For CPUs: packs the weights as the kernels of the device engine "
           "read them, and writes them with the model's description and its "
           "tokenizer to "
           "one file, a device package. Codes keep their values, and so do "
           "float weights; lm_head becomes int8 unless --lm_head=keep.\n\n"
           "Context, batch, chunk and cache are what the package is run with "
           "unless the user of the runtime says otherwise. A package for "
           "generic runs on every machine.\n\n"
           "For Qualcomm Cloud AI (--target=aic100, aic200; flags with aic:): "
           "exports the model as ONNX into the cache, with QEfficient's names "
           "and layout, and runs the SDK's compiler over it. What is there "
           "already is not made again.";
  }
  absl::string_view examples() const override {
    return "compile --model=small --output=small.qeff --target=x86-64 "
           "--kv_cache=int8\n"
           "compile --model=mpt --target=aic100 --prefill_seq_len=32 "
           "--ctx_len=128 --num_cores=14\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    flags->AddRequired("model", &model_, "DIR",
                       "The model's folder, or a GGUF file.");
    flags->Add("output", &output_, "FILE",
               absl::StrCat("The package to write, which CPUs need; replaced "
                            "if it exists. aic: "
                            "a folder to use instead of the cache, which is ",
                            kCacheRootHelp, "."));
    flags->AddChoice("target", &target_,
                     {"generic", "x86-64", "aarch64", "aic100", "aic200"},
                     "The machines that it is for.");
    flags->BeginSection("The engine");
    flags->Add("context_length", &engine_.context_length, "N",
               "Tokens of a sequence, prompt included; 0 is as many as the "
               "model was made for.");
    flags->AddChoice("sparse", &sparse_, {"faster", "smaller", "never"},
                     "Which matrices of a pruned model leave its zeros out: "
                     "those that are read faster (none of a model that caches "
                     "hold), those that are smaller.");
    flags->Add("batch_size", &engine_.batch_size, "N",
               "Sequences that run side by side.");
    flags->Add("prefill_chunk", &engine_.prefill_chunk, "N",
               "Tokens of a prompt that go through a layer together.");
    engine_flags_.Declare(flags);
    aic_.Declare(flags);
  }
  absl::Status Check(const FlagTable& flags) override {
    QEFF_RETURN_IF_ERROR(CheckFlags(flags, ForAic()));
    QEFF_RETURN_IF_ERROR(
        CheckRange("batch_size", engine_.batch_size, 1, kMaxBatchSize));
    if (ForAic()) return aic_.Check(flags, target_, engine_.batch_size);
    QEFF_RETURN_IF_ERROR(CheckRange("context_length", engine_.context_length, 0,
                                    kMaxContextLength));
    QEFF_RETURN_IF_ERROR(CheckRange("prefill_chunk", engine_.prefill_chunk, 1,
                                    kMaxPrefillChunk));
    return engine_flags_.Compile().status();
  }
  absl::StatusOr<Json> Run(const CommandEnv& env,
                           const FlagTable& flags) override {
    if (ForAic()) {
      QEFF_ASSIGN_OR_RETURN(const ModelFolder folder,
                            ModelFolder::Open(model_));
      return aic_.Run(env, flags, target_, folder.path(), output_,
                      engine_.batch_size);
    }
    return RunForCpu(env, flags);
  }

 private:
  bool ForAic() const {
    return absl::c_linear_search(AicTarget::names(), target_);
  }

  // Flags of the other kind of target are none of this one.
  absl::Status CheckFlags(const FlagTable& flags, bool for_aic) const {
    if (!for_aic && output_.empty()) {
      return UsageError("--output=FILE is required");
    }
    const std::vector<std::string> others =
        for_aic ? std::vector<std::string>{"context_length", "sparse",
                                           "prefill_chunk",  "activations",
                                           "lm_head",        "kv_cache",
                                           "calibration"}
                : AicTarget::flag_names();
    for (const std::string& flag : others) {
      if (!flags.WasGiven(flag)) continue;
      return UsageError(
          absl::StrCat("--", flag, " does not go with --target=", target_));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Json> RunForCpu(const CommandEnv& env,
                                 const FlagTable& flags) {
    QEFF_ASSIGN_OR_RETURN(CompileOptions options, engine_flags_.Compile());
    options.sparse = sparse_ == "faster"    ? SparseRule::kFaster
                     : sparse_ == "smaller" ? SparseRule::kSmaller
                                            : SparseRule::kNever;
    engine_flags_.Apply(&engine_);
    QEFF_ASSIGN_OR_RETURN(const ModelFolder folder, ModelFolder::Open(model_));
    QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Transformer> transformer,
                          LoadTransformer(folder.path()));
    QEFF_ASSIGN_OR_RETURN(const PackageWriteOptions write,
                          WriteOptions(transformer->spec()));
    QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                          TokenizerOf(*transformer, env));
    const InterruptScope interrupt;
    if (tokenizer != nullptr) {
      QEFF_RETURN_IF_ERROR(engine_flags_.CalibrateKeys(transformer, *tokenizer,
                                                       env.pool, &options));
    } else if (flags.WasGiven("calibration")) {
      return InvalidInputError(
          "--calibration: the model's folder has no tokenizer to read text "
          "with");
    }
    const ModelCompiler compiler(*transformer, options, env.pool);
    QEFF_ASSIGN_OR_RETURN(const ModelPlan plan, compiler.Plan());
    QEFF_RETURN_IF_ERROR(interrupt.Check());
    QEFF_RETURN_IF_ERROR(Write(*transformer, compiler, plan.model,
                               tokenizer.get(), write, interrupt));
    return Report(plan, transformer->checkpoint().config(), env);
  }

  static absl::Status CheckRange(absl::string_view flag, int64_t value,
                                 int64_t low, int64_t high) {
    if (value >= low && value <= high) return absl::OkStatus();
    return UsageError(absl::StrCat("--", flag, ": expected ", low, " to ", high,
                                   ", found ", value));
  }

  absl::StatusOr<PackageWriteOptions> WriteOptions(
      const TransformerSpec& spec) const {
    PackageWriteOptions write;
    QEFF_ASSIGN_OR_RETURN(write.target, ParsePackageTarget(target_));
    write.run = engine_;
    if (engine_.context_length == 0) {
      write.run.context_length =
          std::min(spec.max_positions, kMaxContextLength);
    } else if (spec.position == PositionKind::kLearned &&
               engine_.context_length > spec.max_positions) {
      return InvalidInputError("--context_length: the model has positions for ",
                               spec.max_positions, " tokens, found ",
                               engine_.context_length);
    }
    write.producer = absl::StrCat("qeff ", kQeffVersion);
    return write;
  }

  // Null, and a word about it, when the folder has none.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerOf(
      const Transformer& transformer, const CommandEnv& env) {
    absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer =
        LoadTokenizer(transformer);
    if (!absl::IsNotFound(tokenizer.status())) return tokenizer;
    std::fprintf(env.out,
                 "no tokenizer in the folder: the package takes token ids "
                 "only\n");
    return std::unique_ptr<Tokenizer>();
  }

  // One matrix at a time: none is needed after it is written.
  absl::Status Write(const Transformer& transformer,
                     const ModelCompiler& compiler, const DeviceModel& plan,
                     const Tokenizer* tokenizer,
                     const PackageWriteOptions& write,
                     const InterruptScope& interrupt) const {
    QEFF_ASSIGN_OR_RETURN(
        const std::unique_ptr<PackageWriter> writer,
        PackageWriter::Create(
            plan, tokenizer == nullptr ? nullptr : &tokenizer->tables(), write,
            output_));
    ProgressOptions progress_options;
    progress_options.unit = "B";
    Progress progress("compile", static_cast<int64_t>(writer->file_bytes()),
                      progress_options);
    absl::Status status;
    VisitMatrices(&plan, [&](const TensorId& id, const DeviceMatrix* planned) {
      if (planned->rows == 0 || !status.ok()) return;
      const absl::StatusOr<DeviceMatrix> matrix =
          compiler.CompileMatrix(id, *planned);
      status = matrix.status();
      if (!status.ok()) return;
      status = writer->Add(id, matrix->bytes);
      compiler.ReleasePages(id);
      progress.Advance(static_cast<int64_t>(matrix->bytes.size()));
      if (status.ok()) status = interrupt.Check();
    });
    QEFF_RETURN_IF_ERROR(status);
    QEFF_RETURN_IF_ERROR(transformer.checkpoint().VerifyUnchanged());
    return writer->Commit();
  }

  // Reads back what was written.
  absl::StatusOr<Json> Report(const ModelPlan& plan, const Json& config,
                              const CommandEnv& env) const {
    const DeviceModel& model = plan.model;
    PackageOpenOptions open;
    open.verify_up_to_bytes = 0;
    open.any_target = true;
    QEFF_ASSIGN_OR_RETURN(const DevicePackage package,
                          DevicePackage::Open(output_, open));
    const PackageHeader& header = package.header();
    const std::string block =
        WeightLayoutName(model.blocks[0].down.weight.layout);
    const std::string lm_head = WeightLayoutName(
        model.lm_head.weight.rows == 0 ? model.token_embedding.layout
                                       : model.lm_head.weight.layout);
    const double bits = SizeOfBlocks(model).bits_per_weight();
    std::fprintf(env.out,
                 "wrote %s: %llu bytes, blocks %s, %.3f bits a weight, lm_head "
                 "%s\n",
                 output_.c_str(),
                 static_cast<unsigned long long>(header.file_bytes),
                 block.c_str(), bits, lm_head.c_str());
    const bool pruned = config.contains("sparsity") && sparse_ != "never";
    const Json sparse = ReportSparse(plan, pruned, env);
    const EngineOptions& engine = header.options;
    return Json{{"output", output_},
                {"sparse", sparse},
                {"target", target_},
                {"bytes", header.file_bytes},
                {"bits_per_weight", bits},
                {"tensors", header.tensors.size()},
                {"blocks", block},
                {"lm_head", lm_head},
                {"tokenizer", header.tokenizer.has_value()},
                {"context_length", engine.context_length},
                {"batch_size", engine.batch_size},
                {"prefill_chunk", engine.prefill_chunk},
                {"kv_cache", engine_flags_.kv_cache()}};
  }

  // What became of the zeros of a pruned model, and why.
  static Json ReportSparse(const ModelPlan& plan, bool pruned,
                           const CommandEnv& env) {
    int64_t sparse = 0, dense = 0;
    uint64_t bytes = 0, dense_bytes = 0;
    VisitMatrices(
        &plan.model, [&](const TensorId& id, const DeviceMatrix* matrix) {
          if (!IsInBlock(id.role) || matrix->rows == 0) return;
          const auto bytes_of = [&](const WeightLayout& layout) {
            return LayoutBytes(layout, matrix->rows, matrix->cols).value();
          };
          IsSparse(matrix->layout) ? ++sparse : ++dense;
          if (!IsSparse(matrix->layout)) return;
          bytes += bytes_of(matrix->layout);
          dense_bytes += bytes_of(DenseLayoutOf(matrix->layout));
        });
    if (sparse > 0 || (pruned && plan.dense_in_caches == 0)) {
      std::fprintf(
          env.out,
          "%lld matrices of the blocks are sparse, with %llu bytes instead of "
          "%llu%s\n",
          static_cast<long long>(sparse),
          static_cast<unsigned long long>(bytes),
          static_cast<unsigned long long>(dense_bytes),
          dense == 0
              ? ""
              : absl::StrCat("; ", dense,
                             " are dense: they have 2 or 3 bits, or short rows "
                             "of 4 bits, or too few of their weights are 0 (to "
                             "be faster; --sparse=smaller takes more)")
                    .c_str());
    }
    if (plan.dense_in_caches > 0) {
      std::fprintf(
          env.out,
          "%lld matrices of the blocks are dense, though many of their weights "
          "are 0: the model is so small that caches hold it, and reads faster "
          "(--sparse=smaller leaves zeros out)\n",
          static_cast<long long>(plan.dense_in_caches));
    }
    return Json{{"matrices", sparse},
                {"bytes", bytes},
                {"dense_bytes", dense_bytes},
                {"dense_in_caches", plan.dense_in_caches}};
  }

  std::string model_;
  std::string output_;
  std::string sparse_ = "faster";
  std::string target_ = std::string(PackageTargetName(HostPackageTarget()));
  EngineFlags engine_flags_{/*lm_head=*/"int8"};
  EngineOptions engine_;
  AicTarget aic_;
};

}  // namespace

std::unique_ptr<Command> MakeCompileCommand() {
  return std::make_unique<CompileCommand>();
}

}  // namespace qeff
