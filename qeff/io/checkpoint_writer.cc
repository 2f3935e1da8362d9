// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/checkpoint_writer.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/io/checkpoint_index.h"
#include "qeff/io/messages.h"
#include "qeff/io/shard_layout.h"
#include "qeff/util/atomic_folder.h"
#include "qeff/util/check.h"
#include "qeff/util/checked.h"
#include "qeff/util/hash_map.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Of a tensor that are copied at a time.
constexpr size_t kCopyBytes = size_t{4} << 20;

constexpr uint64_t kMaxOtherFileBytes = uint64_t{256} << 20;

// Where a tensor lies, and how much of it has arrived.
struct Slot {
  OutputFile* file = nullptr;
  uint64_t begin_bytes = 0;  // from the start of the file
  uint64_t size_bytes = 0;
  mutable std::atomic<uint64_t> written_bytes{0};
};

class ShardedWriter : public CheckpointWriter {
 public:
  ShardedWriter(std::shared_ptr<OutputFolder> folder,
                std::vector<TensorInfo> tensors, ShardLayout layout,
                const CheckpointWriterOptions& options)
      : folder_(std::move(folder)),
        tensors_(std::move(tensors)),
        layout_(std::move(layout)),
        before_sync_(options.before_sync),
        slots_(tensors_.size()) {}

  // Creates the shards with their final sizes and writes their headers.
  absl::Status Reserve();

  absl::Status Write(absl::string_view name, uint64_t offset_bytes,
                     absl::Span<const uint8_t> bytes) override;
  absl::Status MarkWritten(absl::string_view name) override;
  absl::Status Read(absl::string_view name, uint64_t offset_bytes,
                    absl::Span<uint8_t> bytes) const override;
  absl::Status Sync() override;
  absl::Status Commit(const Json& config,
                      const std::vector<ExtraFile>& extra) override;

 private:
  // The slot of `name`, which has `size` bytes at `offset_bytes`.
  absl::StatusOr<const Slot*> Find(absl::string_view name,
                                   uint64_t offset_bytes, size_t size) const;
  absl::Status CheckComplete() const;
  absl::Status WriteFiles(const Json& config,
                          const std::vector<ExtraFile>& extra);
  absl::Status AddFile(const std::string& name, absl::string_view content);
  CheckpointIndex Index() const;

  std::shared_ptr<OutputFolder> folder_;  // null after Commit
  const std::vector<TensorInfo> tensors_;
  const ShardLayout layout_;
  const std::function<void()> before_sync_;
  std::vector<Slot> slots_;
  std::vector<OutputFile*> shards_;
  HashMap<absl::string_view, size_t> index_;  // into tensors_
  std::atomic<bool> failed_{false};
};

absl::Status ShardedWriter::Reserve() {
  CheckedU64 total_bytes = 0;
  for (const ShardLayout::Shard& shard : layout_.shards) {
    total_bytes = total_bytes + shard.file_bytes;
  }
  if (!total_bytes.valid()) {
    return InvalidInputError("size of all tensors overflows 64 bits");
  }
  uint64_t there_bytes = 0;  // of an earlier run
  for (const ShardLayout::Shard& shard : layout_.shards) {
    QEFF_ASSIGN_OR_RETURN(OutputFile * file, folder_->AddFile(shard.name));
    there_bytes += file->AllocatedBytes();
    shards_.push_back(file);
  }
  QEFF_RETURN_IF_ERROR(CheckFreeSpace(
      ParentFolder(folder_->temporary_path()),
      total_bytes.value() - std::min(there_bytes, total_bytes.value())));
  for (size_t i = 0; i < shards_.size(); ++i) {
    const ShardLayout::Shard& shard = layout_.shards[i];
    QEFF_RETURN_IF_ERROR(shards_[i]->Resize(shard.file_bytes));
    QEFF_RETURN_IF_ERROR(shards_[i]->Write(0, AsBytes(shard.header)));
  }
  index_.reserve(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const ShardLayout::Place& place = layout_.places[i];
    slots_[i].file = shards_[place.shard];
    slots_[i].begin_bytes = place.begin_bytes;
    slots_[i].size_bytes = tensors_[i].size_bytes();
    index_.emplace(tensors_[i].name, i);
  }
  return absl::OkStatus();
}

absl::StatusOr<const Slot*> ShardedWriter::Find(absl::string_view name,
                                                uint64_t offset_bytes,
                                                size_t size) const {
  const auto it = index_.find(name);
  if (it == index_.end()) {
    return InvalidInputError("tensor ", QuoteName(name),
                             " was not declared to the writer");
  }
  const Slot& slot = slots_[it->second];
  if (!(CheckedU64(offset_bytes) + size).AtMost(slot.size_bytes)) {
    return InvalidInputError("tensor ", QuoteName(name), ": expected at most ",
                             slot.size_bytes, " bytes, found ", size, " at ",
                             offset_bytes);
  }
  return &slot;
}

absl::Status ShardedWriter::Write(absl::string_view name, uint64_t offset_bytes,
                                  absl::Span<const uint8_t> bytes) {
  QEFF_CHECK(folder_ != nullptr);
  QEFF_ASSIGN_OR_RETURN(const Slot* slot,
                        Find(name, offset_bytes, bytes.size()));
  const absl::Status status =
      slot->file->Write(slot->begin_bytes + offset_bytes, bytes);
  if (!status.ok()) {
    failed_.store(true, std::memory_order_relaxed);
    return status;
  }
  slot->written_bytes.fetch_add(bytes.size(), std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status ShardedWriter::MarkWritten(absl::string_view name) {
  QEFF_CHECK(folder_ != nullptr);
  QEFF_ASSIGN_OR_RETURN(const Slot* slot, Find(name, 0, 0));
  slot->written_bytes.store(slot->size_bytes, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status ShardedWriter::Read(absl::string_view name, uint64_t offset_bytes,
                                 absl::Span<uint8_t> bytes) const {
  QEFF_CHECK(folder_ != nullptr);
  QEFF_ASSIGN_OR_RETURN(const Slot* slot,
                        Find(name, offset_bytes, bytes.size()));
  return slot->file->Read(slot->begin_bytes + offset_bytes, bytes);
}

absl::Status ShardedWriter::Sync() {
  QEFF_CHECK(folder_ != nullptr);
  for (OutputFile* file : shards_) {
    const absl::Status status = file->Sync();
    if (status.ok()) continue;
    failed_.store(true, std::memory_order_relaxed);
    return status;
  }
  return absl::OkStatus();
}

absl::Status ShardedWriter::CheckComplete() const {
  if (failed_.load(std::memory_order_relaxed)) {
    return absl::UnavailableError(
        absl::StrCat(folder_->temporary_path(), ": an earlier write failed"));
  }
  for (size_t i = 0; i < slots_.size(); ++i) {
    const uint64_t written = slots_[i].written_bytes;
    if (written != slots_[i].size_bytes) {
      return absl::InternalError(absl::StrCat(
          "tensor ", QuoteName(tensors_[i].name), ": expected ",
          slots_[i].size_bytes, " bytes, ", written, " were written"));
    }
  }
  return absl::OkStatus();
}

absl::Status ShardedWriter::AddFile(const std::string& name,
                                    absl::string_view content) {
  QEFF_ASSIGN_OR_RETURN(OutputFile * file, folder_->AddFile(name));
  return file->Write(0, AsBytes(content));
}

CheckpointIndex ShardedWriter::Index() const {
  CheckpointIndex index;
  uint64_t total_bytes = 0;
  for (const ShardLayout::Shard& shard : layout_.shards) {
    index.shards.push_back(shard.name);
  }
  for (size_t i = 0; i < tensors_.size(); ++i) {
    index.tensors.push_back({tensors_[i].name, layout_.places[i].shard});
    total_bytes += slots_[i].size_bytes;
  }
  index.total_size = total_bytes;
  return index;
}

absl::Status ShardedWriter::WriteFiles(const Json& config,
                                       const std::vector<ExtraFile>& extra) {
  QEFF_RETURN_IF_ERROR(CheckComplete());
  QEFF_RETURN_IF_ERROR(AddFile("config.json", WriteJson(config)));
  if (layout_.shards.size() > 1) {
    QEFF_RETURN_IF_ERROR(
        AddFile(std::string(kIndexFileName), WriteCheckpointIndex(Index())));
  }
  for (const ExtraFile& file : extra) {
    QEFF_RETURN_IF_ERROR(AddFile(file.name, file.content));
  }
  return absl::OkStatus();
}

absl::Status ShardedWriter::Commit(const Json& config,
                                   const std::vector<ExtraFile>& extra) {
  QEFF_CHECK(folder_ != nullptr);
  absl::Status status = WriteFiles(config, extra);
  if (status.ok()) {
    if (before_sync_) before_sync_();
    status = folder_->Commit();
  }
  // Removes everything unless it was committed.
  folder_.reset();
  return status;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CheckpointWriter>> CheckpointWriter::Create(
    const std::string& folder, std::vector<TensorInfo> tensors,
    const CheckpointWriterOptions& options) {
  // A layout that is impossible leaves no trace.
  QEFF_RETURN_IF_ERROR(PlanShards(tensors, options.max_shard_bytes).status(),
                       folder);
  QEFF_ASSIGN_OR_RETURN(auto atomic_folder, AtomicFolder::Create(folder));
  return CreateIn(std::move(atomic_folder), std::move(tensors), options);
}

absl::StatusOr<std::unique_ptr<CheckpointWriter>> CheckpointWriter::CreateIn(
    std::shared_ptr<OutputFolder> folder, std::vector<TensorInfo> tensors,
    const CheckpointWriterOptions& options) {
  QEFF_ASSIGN_OR_RETURN(ShardLayout layout,
                        PlanShards(tensors, options.max_shard_bytes),
                        folder->temporary_path());
  auto writer = std::make_unique<ShardedWriter>(
      std::move(folder), std::move(tensors), std::move(layout), options);
  QEFF_RETURN_IF_ERROR(writer->Reserve());
  return std::unique_ptr<CheckpointWriter>(std::move(writer));
}

absl::Status CopyTensor(const Checkpoint& checkpoint, const std::string& name,
                        const std::function<absl::Status()>& check,
                        CheckpointWriter* writer) {
  QEFF_ASSIGN_OR_RETURN(const TensorView view, checkpoint.Get(name));
  for (size_t begin = 0; begin < view.bytes.size(); begin += kCopyBytes) {
    if (check) QEFF_RETURN_IF_ERROR(check());
    TensorView part = view;
    part.bytes = view.bytes.subspan(begin, kCopyBytes);
    QEFF_RETURN_IF_ERROR(writer->Write(name, begin, part.bytes));
    checkpoint.Release(part);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<CheckpointWriter::ExtraFile>> ReadOtherFiles(
    const Checkpoint& checkpoint) {
  std::vector<CheckpointWriter::ExtraFile> files;
  for (const std::string& name : checkpoint.other_files()) {
    QEFF_ASSIGN_OR_RETURN(
        std::string content,
        ReadFileToString(absl::StrCat(checkpoint.folder(), "/", name),
                         kMaxOtherFileBytes));
    files.push_back({name, std::move(content)});
  }
  return files;
}

}  // namespace qeff
