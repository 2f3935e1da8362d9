// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/checkpoint.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "qeff/io/file_kind.h"
#include "qeff/io/messages.h"
#include "qeff/util/checked.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr absl::string_view kConfigFileName = "config.json";
constexpr absl::string_view kSingleFileName = "model.safetensors";
constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

// Names of the regular files in `folder`, links to such included, sorted.
absl::StatusOr<std::vector<std::string>> ListFiles(const std::string& folder) {
  DIR* stream = opendir(folder.c_str());
  if (stream == nullptr) {
    if (errno != ENOTDIR) return IoError(folder, "open", errno);
    const absl::string_view kind = ForeignKindOfName(folder);
    return InvalidInputError(folder, ": expected a model folder, found ",
                             kind.empty() ? "a file" : kind,
                             kind.empty() ? "" : "; convert it to safetensors");
  }
  std::vector<std::string> names;
  while (const dirent* entry = readdir(stream)) {
    struct stat info;
    const std::string path = absl::StrCat(folder, "/", entry->d_name);
    if (stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode)) {
      names.emplace_back(entry->d_name);
    }
  }
  closedir(stream);
  std::sort(names.begin(), names.end());
  return names;
}

// There is neither a single file nor an index: says what there is instead.
absl::Status NoWeightsError(const std::string& folder,
                            const std::vector<std::string>& names) {
  std::vector<std::string> found;
  for (const std::string& name : names) {
    const absl::string_view kind = ForeignKindOfName(name);
    if (!kind.empty()) {
      found.push_back(absl::StrCat(QuoteName(name), " (", kind, ")"));
    } else if (absl::EndsWith(name, ".safetensors")) {
      found.push_back(QuoteName(name));
    }
  }
  std::string message = absl::StrCat(folder, ": expected ", kSingleFileName,
                                     " or ", kIndexFileName, ", found neither");
  constexpr size_t kMaxNamed = 10;
  if (!found.empty()) {
    if (found.size() > kMaxNamed) found.resize(kMaxNamed);
    absl::StrAppend(&message, " but ", absl::StrJoin(found, ", "),
                    "; convert the model to safetensors");
  }
  return absl::NotFoundError(message);
}

// A file that early versions of other tools wrote beside config.json.
struct EarlyConfig {
  absl::string_view file;
  absl::string_view quant_method;
};
constexpr EarlyConfig kEarlyConfigs[] = {{"quantize_config.json", "gptq"},
                                         {"quant_config.json", "awq"}};

bool IsEarlyConfig(absl::string_view name) {
  return std::any_of(
      std::begin(kEarlyConfigs), std::end(kEarlyConfigs),
      [name](const EarlyConfig& config) { return config.file == name; });
}

bool IsOtherFile(absl::string_view name) {
  return name[0] != '.' && !IsEarlyConfig(name) && name != kConfigFileName &&
         !absl::EndsWith(name, ".safetensors") &&
         !absl::EndsWith(name, ".safetensors.index.json") &&
         ForeignKindOfName(name).empty();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Checkpoint>> Checkpoint::Open(
    const std::string& folder) {
  std::shared_ptr<Checkpoint> checkpoint(new Checkpoint());
  checkpoint->folder_ = folder;
  QEFF_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                        ListFiles(folder));
  QEFF_ASSIGN_OR_RETURN(
      checkpoint->config_,
      ReadJsonFile(checkpoint->config_path(), kMaxConfigBytes));
  if (!checkpoint->config_.is_object()) {
    return InvalidInputError(checkpoint->config_path(),
                             ": expected a JSON object, found ",
                             JsonForMessage(checkpoint->config_));
  }
  QEFF_RETURN_IF_ERROR(checkpoint->AddEarlyQuantizationConfig(names));
  QEFF_RETURN_IF_ERROR(checkpoint->OpenWeights(names));
  QEFF_RETURN_IF_ERROR(checkpoint->ListTensors());
  std::copy_if(names.begin(), names.end(),
               std::back_inserter(checkpoint->other_files_), IsOtherFile);
  return std::shared_ptr<const Checkpoint>(std::move(checkpoint));
}

absl::Status Checkpoint::AddEarlyQuantizationConfig(
    const std::vector<std::string>& names) {
  constexpr char kKey[] = "quantization_config";
  if (config_.contains(kKey) && !config_[kKey].is_null()) {
    return absl::OkStatus();
  }
  for (const EarlyConfig& early : kEarlyConfigs) {
    const std::string name(early.file);
    if (!std::binary_search(names.begin(), names.end(), name)) continue;
    const std::string path = absl::StrCat(folder_, "/", name);
    QEFF_ASSIGN_OR_RETURN(Json json, ReadJsonFile(path, kMaxConfigBytes));
    if (!json.is_object()) {
      return InvalidInputError(path, ": expected a JSON object, found ",
                               JsonForMessage(json));
    }
    if (!json.contains("quant_method")) {
      json["quant_method"] = std::string(early.quant_method);
    }
    config_[kKey] = std::move(json);
    return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::OpenWeights(const std::vector<std::string>& names) {
  if (Exists(absl::StrCat(folder_, "/", kSingleFileName))) {
    return AddFile(std::string(kSingleFileName));
  }
  const std::string index_path = absl::StrCat(folder_, "/", kIndexFileName);
  if (Exists(index_path)) return OpenShards(index_path);
  return NoWeightsError(folder_, names);
}

absl::Status Checkpoint::OpenShards(const std::string& index_path) {
  QEFF_ASSIGN_OR_RETURN(const std::string text,
                        ReadFileToString(index_path, kMaxIndexBytes));
  QEFF_ASSIGN_OR_RETURN(const CheckpointIndex index,
                        ParseCheckpointIndex(text, index_path));
  for (const std::string& shard : index.shards) {
    QEFF_RETURN_IF_ERROR(AddFile(shard), absl::StrCat("shard of ", index_path));
  }
  return CheckAgainstIndex(index, index_path);
}

absl::Status Checkpoint::AddFile(const std::string& name) {
  QEFF_ASSIGN_OR_RETURN(
      auto file, SafetensorsFile::Open(absl::StrCat(folder_, "/", name)));
  for (const SafetensorsEntry& entry : file->header().entries) {
    const auto [it, inserted] =
        locations_.emplace(entry.name, Location{files_.size(), &entry});
    if (!inserted) {
      return InvalidInputError(file->path(), ": tensor ", QuoteName(entry.name),
                               " is also in ", files_[it->second.file]->path());
    }
  }
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

// Both ways: each listed tensor is in its shard, each tensor is listed.
absl::Status Checkpoint::CheckAgainstIndex(const CheckpointIndex& index,
                                           const std::string& index_path) {
  std::vector<absl::string_view> missing;
  HashSet<absl::string_view> listed;
  listed.reserve(index.tensors.size());
  for (const CheckpointIndex::Location& location : index.tensors) {
    listed.insert(location.tensor);
    const auto it = locations_.find(location.tensor);
    if (it == locations_.end() || it->second.file != location.shard) {
      missing.push_back(location.tensor);
    }
  }
  if (!missing.empty()) {
    return InvalidInputError(
        index_path, ": weight_map: ", missing.size(),
        " tensors are not in the file that is named: ", QuoteFirst(missing));
  }
  std::vector<absl::string_view> extra;
  uint64_t total_bytes = 0;
  for (const auto& [name, location] : locations_) {
    total_bytes += location.entry->end_bytes - location.entry->begin_bytes;
    if (!listed.contains(name)) extra.push_back(name);
  }
  if (!extra.empty()) {
    std::sort(extra.begin(), extra.end());
    return InvalidInputError(
        index_path, ": weight_map: ", extra.size(),
        " tensors of the shards are not listed: ", QuoteFirst(extra));
  }
  if (index.total_size.has_value() && *index.total_size != total_bytes) {
    warnings_.push_back(absl::StrCat(
        index_path, ": metadata.total_size: expected ", total_bytes,
        ", the sum of the tensors, found ", *index.total_size));
  }
  return absl::OkStatus();
}

absl::Status Checkpoint::ListTensors() {
  tensors_.reserve(locations_.size());
  CheckedU64 weight_bytes = 0;
  for (const auto& file : files_) {
    for (const SafetensorsEntry& entry : file->header().entries) {
      tensors_.push_back({entry.name, entry.dtype, entry.shape});
      weight_bytes = weight_bytes + (entry.end_bytes - entry.begin_bytes);
    }
  }
  if (!weight_bytes.valid()) {
    return InvalidInputError(folder_, ": size of all tensors overflows");
  }
  weight_bytes_ = weight_bytes.value();
  std::sort(
      tensors_.begin(), tensors_.end(),
      [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  return absl::OkStatus();
}

std::string Checkpoint::Place(absl::string_view name) const {
  const auto it = locations_.find(name);
  return absl::StrCat(
      it == locations_.end() ? folder_ : files_[it->second.file]->file().path(),
      ": tensor ", QuoteName(name));
}

absl::StatusOr<TensorView> Checkpoint::Get(absl::string_view name) const {
  const auto it = locations_.find(name);
  if (it == locations_.end()) {
    return absl::NotFoundError(absl::StrCat(Place(name), " is missing"));
  }
  return files_[it->second.file]->View(*it->second.entry);
}

absl::StatusOr<TensorView> Checkpoint::Get(absl::string_view name,
                                           const Shape& shape) const {
  QEFF_ASSIGN_OR_RETURN(TensorView view, Get(name));
  if (view.shape != shape) {
    return InvalidInputError(Place(name), ": expected shape ", shape.ToString(),
                             ", found ", view.shape.ToString());
  }
  return view;
}

const SafetensorsFile* Checkpoint::FileOf(
    absl::Span<const uint8_t> bytes) const {
  for (const auto& file : files_) {
    const absl::Span<const uint8_t> all = file->file().bytes();
    if (bytes.data() >= all.data() &&
        bytes.data() + bytes.size() <= all.data() + all.size()) {
      return file.get();
    }
  }
  return nullptr;
}

absl::optional<FileRange> Checkpoint::Find(
    absl::Span<const uint8_t> bytes) const {
  const SafetensorsFile* const file = FileOf(bytes);
  if (file == nullptr) return absl::nullopt;
  const std::string& path = file->path();
  return FileRange{
      path.substr(path.rfind('/') + 1),
      static_cast<uint64_t>(bytes.data() - file->file().bytes().data())};
}

void Checkpoint::Release(const TensorView& view) const {
  if (const SafetensorsFile* const file = FileOf(view.bytes)) {
    file->file().Release(view.bytes);
  }
}

absl::Status Checkpoint::VerifyUnchanged() const {
  for (const auto& file : files_) {
    QEFF_RETURN_IF_ERROR(file->file().VerifyUnchanged());
  }
  return absl::OkStatus();
}

}  // namespace qeff
