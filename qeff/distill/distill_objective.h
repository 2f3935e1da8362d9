// SPDX-License-Identifier: Apache-2.0
//
// What a student is trained towards: the next token of the text, a teacher's
// distributions, its hidden states, its attention, each with a weight.

#ifndef QEFF_DISTILL_DISTILL_OBJECTIVE_H_
#define QEFF_DISTILL_DISTILL_OBJECTIVE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "qeff/distill/loss_spec.h"
#include "qeff/distill/teacher.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/train/objective.h"

namespace qeff {

// A layer of the student learns from one of the teacher.
struct LayerPair {
  int64_t student = 0;
  int64_t teacher = 0;
};

// Each layer of the student with that at the same share of the teacher's depth.
std::vector<LayerPair> EvenLayerPairs(int64_t student_layers,
                                      int64_t teacher_layers);

struct DistillOptions {
  LossSpec loss;
  double temperature = 1;         // of the divergences
  std::vector<LayerPair> layers;  // of the losses in the middle
  uint64_t seed = 0;              // of projections between widths
};

// The layers of a teacher that these options need.
TeacherTaps TapsOf(const DistillOptions& options);

// `spec` is the student's, `teacher_spec` the teacher's (with a teacher).
// `teacher` may be null where the loss needs none; it may have more tokens than
// the student or fewer: those that both have count. All borrowed. Terms:
// "loss", then those with a weight, without it. Errors: kInvalidArgument for a
// temperature that is not positive, layers outside of a model, and what the
// losses refuse.
absl::StatusOr<std::unique_ptr<Objective>> MakeDistillObjective(
    const TransformerSpec& spec, const TransformerSpec* teacher_spec,
    const DistillOptions& options, Teacher* teacher, ThreadPool* pool);

}  // namespace qeff

#endif  // QEFF_DISTILL_DISTILL_OBJECTIVE_H_
