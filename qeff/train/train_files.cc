// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/train_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "qeff/io/safetensors.h"
#include "qeff/io/safetensors_writer.h"
#include "qeff/util/checksum.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Of all values, as text: JSON has no 64-bit integers that all readers keep.
std::string ChecksumOf(const NamedFloats& state) {
  std::string sums;
  for (const auto& part : state) {
    absl::StrAppend(
        &sums,
        absl::Hex(Checksum64(AsBytes(absl::Span<const float>(part.second)))),
        " ");
  }
  return absl::StrCat(absl::Hex(
      Checksum64(absl::MakeConstSpan(
          reinterpret_cast<const uint8_t*>(sums.data()), sums.size())),
      absl::kZeroPad16));
}

}  // namespace

bool HasTrainState(const std::string& folder) {
  constexpr uint64_t kMaxBytes = uint64_t{256} << 20;
  const absl::StatusOr<std::string> journal =
      ReadFileToString(folder + "/journal", kMaxBytes);
  // The first line describes the run.
  return journal.ok() && std::count(journal->begin(), journal->end(), '\n') > 1;
}

absl::StatusOr<std::unique_ptr<TrainFiles>> TrainFiles::Open(
    const std::string& folder, const Json& description, int64_t kept) {
  QEFF_ASSIGN_OR_RETURN(std::unique_ptr<Journal> journal,
                        Journal::Open(folder + "/journal", description));
  std::unique_ptr<TrainFiles> files(
      new TrainFiles(folder, kept, std::move(journal)));
  if (!files->journal_->steps().empty()) {
    files->last_ = files->journal_->steps().back();
    QEFF_ASSIGN_OR_RETURN(
        const JsonObjectReader last,
        JsonObjectReader::Create(files->last_, folder + "/journal: last line"));
    QEFF_RETURN_IF_ERROR(last.Int("step", 0, kMaxTrainSteps).status());
    QEFF_RETURN_IF_ERROR(last.String("checksum").status());
  }
  // What a run left that was killed between a file and its line.
  files->RemoveOld();
  return files;
}

std::string TrainFiles::PathOf(int64_t step) const {
  return absl::StrFormat("%s/state-%08d.safetensors", folder_, step);
}

absl::Status TrainFiles::Load(const NamedFloats& state) const {
  const std::string path = PathOf(last_["step"].get<int64_t>());
  QEFF_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(path));
  for (const auto& part : state) {
    const SafetensorsEntry* entry = file->Find(part.first);
    if (entry == nullptr) {
      return InvalidInputError(path, ": expected a tensor ", part.first,
                               ", found none");
    }
    const TensorView view = file->View(*entry);
    const uint64_t bytes = part.second.size() * sizeof(float);
    if (view.dtype != DType::kF32 || view.bytes.size() != bytes) {
      return InvalidInputError(path, ": tensor ", part.first, ": expected ",
                               bytes, " bytes of F32, found ",
                               view.bytes.size(), " of ",
                               DTypeName(view.dtype));
    }
    if (bytes > 0) {
      std::memcpy(part.second.data(), view.bytes.data(), view.bytes.size());
    }
  }
  const std::string found = ChecksumOf(state);
  const std::string expected = last_["checksum"].get<std::string>();
  if (found == expected) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(path, ": expected the checksum ", expected, ", found ",
                   found, ": the file is damaged; --restart begins anew"));
}

absl::Status TrainFiles::Save(const Json& progress, const NamedFloats& state) {
  const int64_t step = progress["step"].get<int64_t>();
  std::vector<NamedTensor> tensors;
  for (const auto& part : state) {
    NamedTensor tensor;
    tensor.name = part.first;
    tensor.tensor.dtype = DType::kF32;
    tensor.tensor.shape = Shape({static_cast<int64_t>(part.second.size())});
    tensor.tensor.bytes = AsBytes(absl::Span<const float>(part.second));
    tensors.push_back(std::move(tensor));
  }
  QEFF_RETURN_IF_ERROR(WriteSafetensorsFile(PathOf(step), tensors));
  Json line = progress;
  line["checksum"] = ChecksumOf(state);
  QEFF_RETURN_IF_ERROR(journal_->Append(line));
  last_ = std::move(line);
  RemoveOld();
  return absl::OkStatus();
}

void TrainFiles::RemoveOld() const {
  // Steps are in the journal in order; each of its lines had a file.
  const std::vector<Json>& steps = journal_->steps();
  const size_t kept = static_cast<size_t>(kept_);
  if (steps.size() <= kept) return;
  for (size_t i = 0; i < steps.size() - kept; ++i) {
    if (!steps[i].contains("step") || !steps[i]["step"].is_number_integer()) {
      continue;
    }
    unlink(PathOf(steps[i]["step"].get<int64_t>()).c_str());
  }
}

}  // namespace qeff
