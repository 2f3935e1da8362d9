// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/training.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/distill/on_policy_text.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/model_fingerprint.h"
#include "qeff/kernels/limits/machine_limits.h"
#include "qeff/kernels/sgemm/fma_peak.h"
#include "qeff/quant/quantize_checkpoint.h"
#include "qeff/quant/quantize_plan.h"
#include "qeff/quant/quantized_output.h"
#include "qeff/train/agreement.h"
#include "qeff/train/sequence_sampler.h"
#include "qeff/train/token_shard.h"
#include "qeff/train/train_files.h"
#include "qeff/train/write_model.h"
#include "qeff/transformer/model_writer.h"
#include "qeff/util/check.h"
#include "qeff/util/checksum.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/output_file.h"
#include "qeff/util/scratch_folder.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Changes with what the same options and inputs give.
constexpr int kVersion = 1;

std::string WeightsFingerprint(ModelWeights& weights) {
  std::string sums;
  for (const Parameter& parameter : Parameters(weights)) {
    absl::StrAppend(
        &sums, parameter.name, " ",
        absl::Hex(Checksum64(absl::MakeConstSpan(
            reinterpret_cast<const uint8_t*>(parameter.values.data()),
            parameter.values.size() * sizeof(float)))),
        "\n");
  }
  return Fingerprint(sums);
}

class Training {
 public:
  Training(Student student, const TrainingOptions& options, ThreadPool* pool)
      : student_(std::move(student)), options_(options), pool_(pool) {}

  absl::StatusOr<TrainingResult> Go(const TeacherModel& teacher,
                                    const TrainingText& text,
                                    const std::string& output,
                                    GradientReducer* reducer) {
    reducer_ = reducer;
    QEFF_RETURN_IF_ERROR(Agree(
        IsFirst(reducer) ? OpenFolder(output) : absl::OkStatus(), reducer));
    QEFF_RETURN_IF_ERROR(BroadcastText(0, &work_folder_, reducer));
    if (work_folder_.empty()) {
      result_.was_complete = true;
      return result_;
    }
    const bool resumes = HasTrainState(work_folder_);
    const absl::Status status = Train(teacher, text);
    if (status.ok()) return result_;
    if (folder_ != nullptr && !resumes && !HasTrainState(work_folder_)) {
      folder_->Discard();
    }
    return status;
  }

 private:
  // Leaves work_folder_ empty when an earlier run was complete.
  absl::Status OpenFolder(const std::string& output) {
    QEFF_ASSIGN_OR_RETURN(std::unique_ptr<PartialFolder> folder,
                          PartialFolder::Open(output, options_.unfinished));
    folder_ = std::move(folder);
    if (folder_->was_complete()) return absl::OkStatus();
    // A folder of its own: that of the run is locked, which those who make
    // files in it do not expect.
    const std::string path = folder_->path() + "/training";
    if (mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) {
      return OutputError(path, "mkdir", errno);
    }
    work_folder_ = path;
    return absl::OkStatus();
  }

  absl::Status Train(const TeacherModel& teacher, const TrainingText& source) {
    const TransformerSpec& spec = student_.map.spec;
    const auto open = [&](const std::vector<std::string>& files,
                          const char* name) {
      return OpenTrainingText(files, source, spec.vocab_size,
                              absl::StrCat(work_folder_, "/", name), reducer_,
                              pool_);
    };
    QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const TokenShard> text,
                          open(source.data, "data.tokens"));
    std::shared_ptr<const TokenShard> held_out;
    if (!source.held_out.empty()) {
      QEFF_ASSIGN_OR_RETURN(held_out, open(source.held_out, "text.tokens"));
    }
    result_.text_tokens = text->tokens();
    result_.parameters = CountElems(student_.weights);
    const std::string before = WeightsFingerprint(student_.weights);
    TrainableOptions trainable = options_.weights;
    trainable.keep_zeros = trainable.keep_zeros && student_.keep_zeros;
    QEFF_ASSIGN_OR_RETURN(weights_,
                          TrainableWeights::Create(std::move(student_.weights),
                                                   trainable, *pool_));
    for (const Parameter& parameter : weights_->parameters()) {
      result_.trained += static_cast<int64_t>(parameter.values.size());
    }
    QEFF_ASSIGN_OR_RETURN(
        const auto objective,
        MakeDistillObjective(spec, teacher.spec, options_.distill,
                             teacher.teacher, pool_));
    const int64_t length = options_.step.sequence_length;
    if (teacher.teacher != nullptr) {
      QEFF_RETURN_IF_ERROR(teacher.teacher->CheckText(
          *text, options_.step.sequence_length, source.tokenize.bos));
    }
    QEFF_ASSIGN_OR_RETURN(
        const auto sampler,
        SequenceSampler::Create(text, length, options_.seed,
                                /*shuffle=*/true, source.tokenize.bos));
    TrainStepOptions step_options = options_.step;
    step_options.schedule.total_steps = options_.run.steps;
    step_options.check = options_.run.check;
    OnPolicyOptions on_policy;
    on_policy.share = options_.on_policy;
    on_policy.batch_size = step_options.batch_size;
    on_policy.sequence_length = length;
    on_policy.vocab_size = text->vocab_size();
    on_policy.seed = options_.seed;
    OnPolicyText own_text(sampler.get(), &student_.map, &student_.config,
                          on_policy, Scratch("student"), reducer_, pool_);
    QEFF_ASSIGN_OR_RETURN(
        const auto step,
        TrainStep::Create(spec, step_options, weights_.get(), objective.get(),
                          &own_text, reducer_, pool_));
    QEFF_RETURN_IF_ERROR(MeasurePeak());
    TrainWork work;
    work.step = step.get();
    work.weights = weights_.get();
    work.parameters = result_.parameters;
    work.peak_flops = result_.peak_flops;
    QEFF_ASSIGN_OR_RETURN(work.held_out,
                          HeldOutBatches(held_out, source.tokenize.bos, length,
                                         options_.held_out_tokens));
    work.description =
        Describe(before, teacher, *text, held_out.get(), step_options);
    work.write = [&] { return Write(); };
    QEFF_ASSIGN_OR_RETURN(result_.run,
                          RunTraining(work, work_folder_, options_.run));
    return absl::OkStatus();
  }

  // A path for this process's own files in the folder.
  std::string Scratch(const std::string& name) const {
    const std::string path = absl::StrCat(work_folder_, "/", name);
    return IsFirst(reducer_) ? path : absl::StrCat(path, ".", reducer_->rank());
  }

  // Of all processes.
  absl::Status MeasurePeak() {
    double& peak = result_.peak_flops;
    peak =
        PeakRate(*pool_, RunFusedMultiplyAdds, OperationsOfFusedMultiplyAdds());
    if (reducer_ == nullptr) return absl::OkStatus();
    return reducer_->Sum(absl::MakeSpan(&peak, 1));
  }

  Json Describe(const std::string& before, const TeacherModel& teacher,
                const TokenShard& text, const TokenShard* held_out,
                const TrainStepOptions& step) const {
    const DistillOptions& distill = options_.distill;
    const TrainableOptions& weights = options_.weights;
    const ScheduleOptions& schedule = step.schedule;
    const OptimizerOptions& optimizer = step.optimizer;
    Json layers = Json::array();
    for (const LayerPair& pair : distill.layers) {
      layers.push_back({pair.student, pair.teacher});
    }
    return Json{
        {"command", "train"},
        {"version", kVersion},
        {"config", student_.config},
        {"student", before},
        {"data", absl::StrCat(absl::Hex(text.checksum()))},
        {"text", held_out == nullptr
                     ? ""
                     : absl::StrCat(absl::Hex(held_out->checksum()))},
        {"held_out_tokens", options_.held_out_tokens},
        {"teacher", distill.loss.teacher() ? teacher.fingerprint : ""},
        {"loss", LossSpecToString(distill.loss)},
        {"temperature", distill.temperature},
        {"layers", layers},
        {"steps", options_.run.steps},
        {"eval_every", options_.run.eval_every},
        {"batch_size", step.batch_size},
        {"micro_batch_size", step.micro_batch_size},
        {"sequence_length", step.sequence_length},
        {"learning_rate", schedule.peak},
        {"schedule", std::string(ScheduleKindName(schedule.kind))},
        {"warmup_steps", schedule.warmup_steps},
        {"final_share", schedule.final_share.value_or(-1)},
        {"decay_share", schedule.decay_share},
        {"optimizer", std::string(OptimizerKindName(optimizer.kind))},
        {"weight_decay", optimizer.weight_decay},
        {"beta1", optimizer.beta1},
        {"beta2", optimizer.beta2},
        {"epsilon", optimizer.epsilon},
        {"clip_norm", step.clip_norm},
        {"seed", options_.seed},
        {"scheme", weights.scheme.has_value() ? QuantSchemeName(*weights.scheme)
                                              : std::string()},
        {"bf16_weights", weights.bf16_weights},
        {"learn_scales", weights.learn_scales},
        {"lora_rank", weights.lora_rank},
        {"lora_alpha", weights.lora_alpha},
        {"keep_zeros", weights.keep_zeros && student_.keep_zeros},
        {"on_policy", options_.on_policy},
        {"dtype", std::string(DTypeName(options_.dtype))},
    };
  }

  absl::Status Write() {
    const ModelWeights& weights = weights_->unrounded(*pool_);
    if (!options_.weights.scheme.has_value()) {
      return WriteModel(student_.map, weights, options_.dtype, student_.config,
                        student_.files, folder_);
    }
    // Rounding float32 weights to nearest gives the codes that they are trained
    // as; the rest is what it will be.
    QEFF_ASSIGN_OR_RETURN(const auto scratch,
                          ScratchFolder::Create(work_folder_ + "/weights"));
    QEFF_RETURN_IF_ERROR(WriteModel(student_.map, weights,
                                    WriteTypes(DType::kF32, options_.dtype),
                                    student_.config, student_.files, scratch));
    QEFF_ASSIGN_OR_RETURN(const std::shared_ptr<const Checkpoint> checkpoint,
                          Checkpoint::Open(scratch->path()));
    QuantizeOptions options;
    options.scheme = *options_.weights.scheme;
    QEFF_ASSIGN_OR_RETURN(const QuantizePlan plan,
                          PlanQuantization(*checkpoint, student_.map, options));
    if (options_.weights.learn_scales) return WriteCodes(*checkpoint, plan);
    QuantizeRunOptions run;
    run.folder = folder_;
    return QuantizeCheckpoint(*checkpoint, plan, folder_->path(), *pool_, run);
  }

  // Writes what `plan` says, with the codes and scales that were trained.
  absl::Status WriteCodes(const Checkpoint& checkpoint,
                          const QuantizePlan& plan) {
    QEFF_ASSIGN_OR_RETURN(
        const std::unique_ptr<CheckpointWriter> writer,
        CheckpointWriter::CreateIn(folder_, OutputTensors(plan)));
    const auto sink = [&](const std::string& name, uint64_t offset_bytes,
                          absl::Span<const uint8_t> bytes) {
      return writer->Write(name, offset_bytes, bytes);
    };
    for (const PlannedTensor& tensor : plan.tensors) {
      if (tensor.quantized()) {
        QEFF_RETURN_IF_ERROR(WriteCodesOf(tensor, sink));
      } else if (tensor.action == PlannedTensor::Action::kKeep) {
        QEFF_RETURN_IF_ERROR(
            CopyTensorBytes(checkpoint, tensor.name, 0,
                            static_cast<int64_t>(tensor.bytes_before), sink));
      }
    }
    return writer->Commit(plan.config, student_.files);
  }

  absl::Status WriteCodesOf(const PlannedTensor& tensor, TensorSink sink) {
    const BlockNames& names =
        student_.map.blocks[static_cast<size_t>(tensor.block)];
    const auto module = std::find_if(
        names.linears.begin(), names.linears.end(),
        [&](const LinearModule& m) { return m.module == tensor.module; });
    QEFF_CHECK(module != names.linears.end());
    std::vector<LinearRole> roles = {module->role};
    if (module->role == LinearRole::kQkv) {
      roles = {LinearRole::kQ, LinearRole::kK, LinearRole::kV};
    }
    std::vector<uint8_t> all_packed, all_scales, packed, scales;
    const ModelWeights& weights = weights_->unrounded(*pool_);
    for (const LinearRole role : roles) {
      const Matrix<float>& matrix =
          PartsOfLinear(role,
                        weights.blocks[static_cast<size_t>(tensor.block)])[0]
              ->weight;
      weights_->scales(tensor.block, role)
          .Encode(matrix.view(), 0, matrix.rows(), &packed, &scales);
      all_packed.insert(all_packed.end(), packed.begin(), packed.end());
      all_scales.insert(all_scales.end(), scales.begin(), scales.end());
    }
    return WriteQuantizedRows(tensor, 0, tensor.rows,
                              {all_packed, all_scales, {}}, sink);
  }

  Student student_;
  const TrainingOptions& options_;
  ThreadPool* const pool_;
  GradientReducer* reducer_ = nullptr;
  std::shared_ptr<PartialFolder> folder_;  // of the first process
  std::string work_folder_;
  std::unique_ptr<TrainableWeights> weights_;
  TrainingResult result_;
};

}  // namespace

absl::StatusOr<Student> StudentOf(const Transformer& model) {
  return GuardMemory([&]() -> absl::StatusOr<Student> {
    Student student;
    student.config = model.checkpoint().config();
    for (const char* key : {"quantization_config", "compression_config"}) {
      student.config.erase(key);
    }
    // Of the plain weights: the same names for all.
    QEFF_ASSIGN_OR_RETURN(
        student.map, MapConfig(student.config, model.checkpoint().config_path(),
                               [&](absl::string_view name) {
                                 return model.checkpoint().Has(name);
                               }));
    student.keep_zeros = !model.quantization().has_value() ||
                         student.config.contains("sparsity");
    QEFF_ASSIGN_OR_RETURN(student.weights, LoadModelWeights(model));
    QEFF_ASSIGN_OR_RETURN(student.files, ReadOtherFiles(model.checkpoint()));
    return student;
  });
}

absl::StatusOr<Student> NewStudent(const Json& config,
                                   const std::string& context, uint64_t seed) {
  return GuardMemory([&]() -> absl::StatusOr<Student> {
    Student student;
    student.config = config;
    QEFF_ASSIGN_OR_RETURN(
        student.map,
        MapConfig(config, context, [](absl::string_view) { return false; }));
    student.weights = InitialWeights(student.map.spec, seed);
    return student;
  });
}

absl::StatusOr<TrainingResult> TrainModel(
    Student student, const TeacherModel& teacher, const TrainingText& text,
    const std::string& output, const TrainingOptions& options,
    GradientReducer* reducer, ThreadPool* pool) {
  return GuardMemory([&] {
    return Training(std::move(student), options, pool)
        .Go(teacher, text, output, reducer);
  });
}

}  // namespace qeff
