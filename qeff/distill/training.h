// SPDX-License-Identifier: Apache-2.0
//
// From a student, text, and perhaps a teacher, to a trained model in a new
// folder: what `qeff train` and `qeff distill` do.
//
//   QEFF_ASSIGN_OR_RETURN(Student student, StudentOf(*model));
//   TrainingOptions options;
//   options.distill.loss.logits.kl = 1;
//   QEFF_ASSIGN_OR_RETURN(
//       TrainingResult result,
//       TrainModel(std::move(student), teacher, text, output, options,
//                  /*reducer=*/nullptr, pool));

#ifndef QEFF_DISTILL_TRAINING_H_
#define QEFF_DISTILL_TRAINING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/distill/distill_objective.h"
#include "qeff/distill/teacher.h"
#include "qeff/distill/training_text.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/tensor/dtype.h"
#include "qeff/train/gradient_reducer.h"
#include "qeff/train/model_weights.h"
#include "qeff/train/train_run.h"
#include "qeff/train/train_step.h"
#include "qeff/train/trainable_weights.h"
#include "qeff/transformer/model_map.h"
#include "qeff/transformer/transformer.h"
#include "qeff/util/json.h"
#include "qeff/util/partial_folder.h"

namespace qeff {

// A model to train.
struct Student {
  Json config;  // the config.json to write, without quantization
  ModelMap map;
  ModelWeights weights;
  // TrainableOptions::keep_zeros: false for a quantized model of which
  // config.json does not say that it was pruned.
  bool keep_zeros = true;
  // Files to write beside it: the tokenizer's.
  std::vector<CheckpointWriter::ExtraFile> files;
};

// A model's weights, dequantized if need be, and its other files. Errors: those
// of LoadModelWeights and ReadOtherFiles.
absl::StatusOr<Student> StudentOf(const Transformer& model);

// Random weights (InitialWeights) in the shape of a config.json, which
// `context` names in errors: those of MapConfig.
absl::StatusOr<Student> NewStudent(const Json& config,
                                   const std::string& context, uint64_t seed);

// Who teaches. Borrowed.
struct TeacherModel {
  Teacher* teacher = nullptr;
  const TransformerSpec* spec = nullptr;
  std::string fingerprint;  // tells teachers apart when a run is resumed
};

struct TrainingOptions {
  PartialWork unfinished = PartialWork::kRefuse;
  DistillOptions distill;
  TrainStepOptions step;
  TrainRunOptions run;
  TrainableOptions weights;
  uint64_t seed = 0;           // of the order of the text
  DType dtype = DType::kBF16;  // of what is written, without a scheme
  // Share of the steps whose text the student writes (OnPolicyText).
  double on_policy = 0;
  int64_t held_out_tokens = 65536;  // of the held-out text, at most
};

struct TrainingResult {
  TrainRunResult run;
  int64_t parameters = 0;  // of the student
  int64_t trained = 0;     // of these, or of its adapters
  double peak_flops = 0;   // of the machine, in float32
  int64_t text_tokens = 0;
  // An earlier run had finished everything; nothing else is set.
  bool was_complete = false;
};

// Trains `student` on `text` and writes it to the new folder `output`; with
// options.weights.scheme as codes: exactly those that it was trained with.
// `teacher` is not looked at where the losses need none. Work in progress is in
// OUTPUT.partial, and stays there after an error if there is a state to go on
// from. With a reducer all its processes call this; the first writes, and the
// others read the text that it has tokenized in the same folder.
// Errors: kInvalidArgument for text with tokens that the student does not have;
// those of PartialFolder, OpenTrainingText, SequenceSampler, TrainStep::Create,
// TrainableWeights::Create, MakeDistillObjective and RunTraining, and of
// writing.
absl::StatusOr<TrainingResult> TrainModel(
    Student student, const TeacherModel& teacher, const TrainingText& text,
    const std::string& output, const TrainingOptions& options,
    GradientReducer* reducer, ThreadPool* pool);

}  // namespace qeff

#endif  // QEFF_DISTILL_TRAINING_H_
