// SPDX-License-Identifier: Apache-2.0

#include "tools/commands/rotated_model.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/optional.h"
#include "qeff/base/qeff_base_model.h"
#include "qeff/quant/rotate.h"
#include "qeff/util/output_file.h"
#include "qeff/util/progress.h"
#include "qeff/util/remove_tree.h"
#include "qeff/util/status.h"
#include "tools/interrupt.h"

namespace qeff {
namespace {

std::string WithoutSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

bool Exists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

absl::Status Rotate(const Transformer& model, const RotationPlan& plan,
                    const std::string& path, const CommandEnv& env) {
  const InterruptScope interrupt;
  ProgressOptions progress_options;
  progress_options.unit = "B";
  Progress progress("rotate", static_cast<int64_t>(plan.Bytes()),
                    progress_options);
  RotateRunOptions options;
  options.progress = [&](uint64_t done, uint64_t) {
    progress.Advance(static_cast<int64_t>(done) - progress.done());
    return interrupt.Check();
  };
  return RotateModel(model, plan, path, *env.pool, options);
}

}  // namespace

absl::StatusOr<RotationPlan> RotatedModel::Plan(const Transformer& model,
                                                const QuantizePlan& plan,
                                                uint64_t seed) {
  RotateOptions options;
  options.seed = seed;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.quantized()) options.exact_modules.insert(tensor.module);
  }
  return PlanRotation(model, options);
}

absl::Status RotatedModel::Lock() {
  lock_ = FileDescriptor(
      open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!lock_.valid()) return IoError(path_, "open", errno);
  // A file system without locks goes unprotected.
  if (flock(lock_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    lock_.Close();
    return absl::UnavailableError(
        absl::StrCat(path_, ": another process works on it at this moment"));
  }
  return absl::OkStatus();
}

// Looks at what is there: nothing, a copy as `plan` says, one that is removed,
// or what is not ours.
absl::Status RotatedModel::Take(const RotationPlan& plan, bool* complete) {
  *complete = false;
  struct stat info;
  if (lstat(path_.c_str(), &info) != 0) return absl::OkStatus();
  const auto checkpoint = Checkpoint::Open(path_);
  if (!S_ISDIR(info.st_mode) || !checkpoint.ok() ||
      !(*checkpoint)->config().contains(kRotationKey)) {
    return absl::AlreadyExistsError(
        absl::StrCat(path_,
                     ": exists already and is no rotated model that an "
                     "earlier run has left; give a new output"));
  }
  QEFF_RETURN_IF_ERROR(Lock());
  if ((*checkpoint)->config() == plan.config) {
    *complete = true;
    return absl::OkStatus();
  }
  RemoveTree(AT_FDCWD, path_.c_str());
  lock_.Close();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<RotatedModel>> RotatedModel::Make(
    const Transformer& model, const RotationPlan& plan,
    const std::string& output, uint64_t output_bytes, const CommandEnv& env) {
  const std::string folder = WithoutSlashes(output);
  // With both, the run that goes on has something to say.
  if (Exists(folder) && !Exists(folder + ".partial")) {
    return absl::AlreadyExistsError(
        absl::StrCat(folder, ": exists already; give a new path"));
  }
  std::unique_ptr<RotatedModel> result(new RotatedModel(folder + ".rotated"));
  bool complete = false;
  QEFF_RETURN_IF_ERROR(result->Take(plan, &complete));
  std::fprintf(env.out, "rotation: %s %s, %.3f MB, until the end of the run\n",
               complete ? "goes on with" : "writes", result->path_.c_str(),
               static_cast<double>(plan.Bytes()) / 1e6);
  std::fflush(env.out);
  if (!complete) {
    QEFF_RETURN_IF_ERROR(CheckFreeSpace(ParentFolder(result->path_),
                                        plan.Bytes() + output_bytes));
    QEFF_RETURN_IF_ERROR(Rotate(model, plan, result->path_, env));
    QEFF_RETURN_IF_ERROR(result->Lock());
  }
  QEFF_ASSIGN_OR_RETURN(result->model_, LoadTransformer(result->path_));
  return result;
}

RotatedModel::~RotatedModel() {
  if (lock_.valid()) RemoveTree(AT_FDCWD, path_.c_str());
}

void RestoreOriginal(const Checkpoint& original, QuantizePlan* plan) {
  plan->config.erase(kRotationKey);
  for (PlannedTensor& tensor : plan->tensors) {
    if (!tensor.quantized()) continue;
    const auto view = original.Get(tensor.name);
    tensor.bytes_before = view.ok() ? view->bytes.size() : 0;
    if (view.ok()) tensor.original_dtype = view->dtype;
  }
}

Json RotationJson(const RotationPlan& plan) {
  return Json{{"seed", plan.seed},
              {"hidden_block", plan.hidden_block},
              {"value_block", plan.rotates_values ? plan.value_block : 0},
              {"unties_lm_head", plan.unties_lm_head},
              {"lm_head_bytes", plan.lm_head_bytes},
              {"scratch_bytes", plan.Bytes()}};
}

}  // namespace qeff
