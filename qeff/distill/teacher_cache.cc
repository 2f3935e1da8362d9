// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/teacher_cache.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/calibration/journal.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/util/check.h"
#include "qeff/util/checksum.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr char kKind[] = "qeff_teacher_cache";
constexpr char kIds[] = "ids", kLogs[] = "log_probabilities",
               kRest[] = "log_rest", kChecksums[] = "checksums";
// Changes with what a cache holds.
constexpr int kVersion = 2;
// Rows that run at a time, and sequences between lines of the journal.
constexpr int64_t kRows = 1024;
constexpr int64_t kJournalSequences = 64;
constexpr int64_t kMostTokens = int64_t{1} << 24;

int BitsOf(int64_t vocab_size) {
  int bits = 1;
  while ((int64_t{1} << bits) < vocab_size) ++bits;
  return bits;
}

int64_t IdBytes(const TeacherCacheInfo& info) {
  return (info.top_k * BitsOf(info.vocab_size) + 7) / 8;
}

std::vector<TensorInfo> TensorsOf(const TeacherCacheInfo& info) {
  const int64_t rows = info.sequences * info.sequence_length;
  return {{kIds, DType::kU8, Shape({rows, IdBytes(info)})},
          {kLogs, DType::kF16, Shape({rows, info.top_k})},
          {kRest, DType::kF16, Shape({rows})},
          {kChecksums, DType::kU8,
           Shape({info.sequences, int64_t{sizeof(uint64_t)}})}};
}

// Of what the three tensors hold of a sequence.
uint64_t ChecksumOf(absl::Span<const uint8_t> ids,
                    absl::Span<const uint8_t> logs,
                    absl::Span<const uint8_t> rest) {
  const std::array<uint64_t, 3> sums = {Checksum64(ids), Checksum64(logs),
                                        Checksum64(rest)};
  return Checksum64(AsBytes(absl::MakeConstSpan(sums)));
}

std::vector<uint16_t> ToF16(absl::Span<const float> values) {
  std::vector<uint16_t> bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(), FloatToF16);
  return bits;
}

// `ids` one after another, each of `bits` bits.
void PackIds(absl::Span<const int32_t> ids, int bits, uint8_t* to) {
  uint64_t held = 0;
  int held_bits = 0;
  for (const int32_t id : ids) {
    held |= static_cast<uint64_t>(id) << held_bits;
    for (held_bits += bits; held_bits >= 8; held_bits -= 8) {
      *to++ = static_cast<uint8_t>(held);
      held >>= 8;
    }
  }
  if (held_bits > 0) *to = static_cast<uint8_t>(held);
}

void UnpackIds(const uint8_t* from, int bits, absl::Span<int32_t> ids) {
  uint64_t held = 0;
  int held_bits = 0;
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  for (int32_t& id : ids) {
    for (; held_bits < bits; held_bits += 8) {
      held |= static_cast<uint64_t>(*from++) << held_bits;
    }
    id = static_cast<int32_t>(held & mask);
    held >>= bits;
    held_bits -= bits;
  }
}

class Writer {
 public:
  Writer(const TeacherCacheInfo& info, Teacher* teacher, SequenceSampler* text,
         const TeacherCacheOptions& options, ThreadPool* pool)
      : info_(info),
        teacher_(*teacher),
        text_(*text),
        options_(options),
        pool_(*pool) {}

  absl::Status Go(const std::string& output) {
    QEFF_ASSIGN_OR_RETURN(std::unique_ptr<PartialFolder> folder,
                          PartialFolder::Open(output, options_.unfinished));
    folder_ = std::move(folder);
    if (folder_->was_complete()) return absl::OkStatus();
    const absl::Status status = Work();
    writer_.reset();
    if (!status.ok() && journal_ != nullptr && journal_->steps().empty()) {
      folder_->Discard();
    }
    return status;
  }

 private:
  absl::Status Work() {
    Json description = info_.ToJson();
    description["version"] = kVersion;
    QEFF_ASSIGN_OR_RETURN(
        journal_, Journal::Open(folder_->path() + "/journal", description));
    QEFF_ASSIGN_OR_RETURN(
        writer_, CheckpointWriter::CreateIn(folder_, TensorsOf(info_)));
    int64_t done = 0;
    if (!journal_->steps().empty()) {
      const Json& last = journal_->steps().back();
      QEFF_ASSIGN_OR_RETURN(
          const JsonObjectReader reader,
          JsonObjectReader::Create(last, folder_->path() + "/journal"));
      QEFF_ASSIGN_OR_RETURN(done, reader.Int("sequences", 0, info_.sequences));
    }
    const int64_t at_a_time =
        std::max<int64_t>(kRows / info_.sequence_length, 1);
    int64_t journaled = done;
    while (done < info_.sequences) {
      if (options_.check) QEFF_RETURN_IF_ERROR(options_.check());
      const int64_t count = std::min(at_a_time, info_.sequences - done);
      QEFF_RETURN_IF_ERROR(Write(done, count));
      done += count;
      if (options_.progress) options_.progress(done, info_.sequences);
      if (done - journaled < kJournalSequences) continue;
      QEFF_RETURN_IF_ERROR(writer_->Sync());
      QEFF_RETURN_IF_ERROR(journal_->Append({{"sequences", done}}));
      journaled = done;
    }
    // What an earlier run has written counts as well.
    for (const char* name : {kIds, kLogs, kRest, kChecksums}) {
      QEFF_RETURN_IF_ERROR(writer_->MarkWritten(name));
    }
    return writer_->Commit(info_.ToJson(), {});
  }

  // Sequences [first, first + count).
  absl::Status Write(int64_t first, int64_t count) {
    TokenBatch batch;
    for (int64_t i = 0; i < count; ++i) {
      QEFF_RETURN_IF_ERROR(text_.Get(first + i, &batch));
    }
    QEFF_RETURN_IF_ERROR(teacher_.Run(batch));
    const int64_t rows = static_cast<int64_t>(batch.ids.size());
    QEFF_ASSIGN_OR_RETURN(const MatrixView<const float> logits,
                          teacher_.Logits(0, rows));
    Matrix<int32_t> ids(rows, info_.top_k);
    Matrix<float> logs(rows, info_.top_k);
    std::vector<float> rest(static_cast<size_t>(rows));
    KeepMostProbable(logits, ids.view(), logs.view(), absl::MakeSpan(rest),
                     pool_);
    const int64_t id_bytes = IdBytes(info_);
    std::vector<uint8_t> packed(static_cast<size_t>(rows * id_bytes));
    for (int64_t r = 0; r < rows; ++r) {
      PackIds(absl::MakeConstSpan(ids.row(r), static_cast<size_t>(info_.top_k)),
              BitsOf(info_.vocab_size), packed.data() + r * id_bytes);
    }
    const std::vector<uint16_t> log_bits = ToF16(logs.span()),
                                rest_bits = ToF16(rest);
    const auto ids_bytes = absl::MakeConstSpan(packed),
               log_bytes = AsBytes(absl::MakeConstSpan(log_bits)),
               rest_bytes = AsBytes(absl::MakeConstSpan(rest_bits));
    std::vector<uint64_t> checksums;
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      const auto of = [&](absl::Span<const uint8_t> bytes) {
        const size_t size = bytes.size() / static_cast<size_t>(count);
        return bytes.subspan(i * size, size);
      };
      checksums.push_back(
          ChecksumOf(of(ids_bytes), of(log_bytes), of(rest_bytes)));
    }
    const auto write = [&](const char* name, absl::Span<const uint8_t> bytes) {
      const uint64_t size = bytes.size() / static_cast<size_t>(count);
      return writer_->Write(name, static_cast<uint64_t>(first) * size, bytes);
    };
    QEFF_RETURN_IF_ERROR(write(kIds, ids_bytes));
    QEFF_RETURN_IF_ERROR(write(kLogs, log_bytes));
    QEFF_RETURN_IF_ERROR(write(kRest, rest_bytes));
    return write(kChecksums, AsBytes(absl::MakeConstSpan(checksums)));
  }

  const TeacherCacheInfo& info_;
  Teacher& teacher_;
  SequenceSampler& text_;
  const TeacherCacheOptions& options_;
  ThreadPool& pool_;
  std::shared_ptr<PartialFolder> folder_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<CheckpointWriter> writer_;
};

class CachedTeacher : public Teacher {
 public:
  CachedTeacher(std::shared_ptr<const Checkpoint> checkpoint,
                const TeacherCacheInfo& info, TensorView ids, TensorView logs,
                TensorView rest, TensorView checksums)
      : checkpoint_(std::move(checkpoint)),
        info_(info),
        ids_(ids),
        logs_(logs),
        rest_(rest),
        checksums_(checksums) {}

  absl::Status CheckText(const TokenShard& text, int64_t sequence_length,
                         absl::optional<int32_t> bos) const override {
    const auto differs = [&](const char* what, const auto& expected,
                             const auto& found) {
      return InvalidInputError(checkpoint_->folder(), ": is of another ", what,
                               ": expected ", expected, ", found ", found);
    };
    const std::string checksum = absl::StrCat(absl::Hex(text.checksum()));
    if (checksum != info_.text) {
      return differs("text (checksum of its tokens)", checksum, info_.text);
    }
    if (sequence_length != info_.sequence_length) {
      return differs("sequence_length", sequence_length, info_.sequence_length);
    }
    if (bos.value_or(-1) != info_.bos) {
      return differs("first token of sequences", bos.value_or(-1), info_.bos);
    }
    return absl::OkStatus();
  }

  absl::Status Run(const TokenBatch& batch) override {
    const int64_t length = info_.sequence_length;
    const int64_t count = static_cast<int64_t>(batch.sequences.size());
    if (batch.generated ||
        count * length != static_cast<int64_t>(batch.ids.size())) {
      return InvalidInputError(checkpoint_->folder(),
                               ": says nothing about text that is not in it");
    }
    row_ids_ = Matrix<int32_t>(count * length, info_.top_k);
    row_logs_ = Matrix<float>(count * length, info_.top_k);
    row_rest_.resize(static_cast<size_t>(count * length));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t sequence = batch.sequences[static_cast<size_t>(i)];
      if (sequence < 0 || sequence >= info_.sequences) {
        return InvalidInputError(checkpoint_->folder(), ": has ",
                                 info_.sequences, " sequences, not number ",
                                 sequence);
      }
      QEFF_RETURN_IF_ERROR(CheckSequence(sequence));
      for (int64_t r = 0; r < length; ++r) {
        ReadRow(sequence * length + r, i * length + r);
      }
    }
    QEFF_RETURN_IF_ERROR(
        CheckSparseTeacher(*Sparse(0, count * length), info_.vocab_size),
        checkpoint_->folder());
    return absl::OkStatus();
  }

  absl::StatusOr<MatrixView<const float>> Logits(int64_t, int64_t) override {
    return absl::UnimplementedError(absl::StrCat(
        checkpoint_->folder(), ": a cache has the most probable tokens only"));
  }

  absl::optional<SparseTeacher> Sparse(int64_t row, int64_t rows) override {
    SparseTeacher teacher;
    teacher.ids = row_ids_.view().Rows(row, rows);
    teacher.log_probabilities = row_logs_.view().Rows(row, rows);
    teacher.log_rest = absl::MakeConstSpan(row_rest_).subspan(
        static_cast<size_t>(row), static_cast<size_t>(rows));
    return teacher;
  }

  // The command asks for no such losses.
  MatrixView<const float> Hidden(int64_t) const override { return None(); }
  MatrixView<const float> Queries(int64_t) const override { return None(); }
  MatrixView<const float> Keys(int64_t) const override { return None(); }

 private:
  static MatrixView<const float> None() {
    QEFF_CHECK(false);
    return {};
  }

  absl::Status CheckSequence(int64_t sequence) const {
    const auto of = [&](const TensorView& tensor) {
      const size_t size =
          tensor.bytes.size() / static_cast<size_t>(info_.sequences);
      return tensor.bytes.subspan(static_cast<size_t>(sequence) * size, size);
    };
    const uint64_t found = ChecksumOf(of(ids_), of(logs_), of(rest_));
    uint64_t expected;
    std::memcpy(&expected, of(checksums_).data(), sizeof(expected));
    if (found == expected) return absl::OkStatus();
    return InvalidInputError(checkpoint_->folder(), ": sequence ", sequence,
                             ": checksum: expected ", absl::Hex(expected),
                             ", found ", absl::Hex(found));
  }

  void ReadRow(int64_t from, int64_t to) {
    const int64_t id_bytes = IdBytes(info_);
    UnpackIds(
        ids_.bytes.data() + from * id_bytes, BitsOf(info_.vocab_size),
        absl::MakeSpan(row_ids_.row(to), static_cast<size_t>(info_.top_k)));
    for (int64_t k = 0; k < info_.top_k; ++k) {
      row_logs_.row(to)[k] = ReadF16(logs_, from * info_.top_k + k);
    }
    row_rest_[static_cast<size_t>(to)] = ReadF16(rest_, from);
  }

  static float ReadF16(const TensorView& tensor, int64_t index) {
    uint16_t bits;
    std::memcpy(&bits, tensor.bytes.data() + index * 2, sizeof(bits));
    return F16ToFloat(bits);
  }

  const std::shared_ptr<const Checkpoint> checkpoint_;
  const TeacherCacheInfo info_;
  const TensorView ids_, logs_, rest_, checksums_;
  // Of the batch.
  Matrix<int32_t> row_ids_;
  Matrix<float> row_logs_;
  std::vector<float> row_rest_;
};

}  // namespace

Json TeacherCacheInfo::ToJson() const {
  return Json{{"kind", kKind},
              {"vocab_size", vocab_size},
              {"top_k", top_k},
              {"sequence_length", sequence_length},
              {"sequences", sequences},
              {"text", text},
              {"bos", bos},
              {"teacher", teacher}};
}

absl::StatusOr<TeacherCacheInfo> TeacherCacheInfo::FromJson(
    const Json& json, const std::string& context) {
  if (!json.contains("kind") || json["kind"] != kKind) {
    return InvalidInputError(context, ": kind: expected ", kKind,
                             ": this is no teacher cache");
  }
  TeacherCacheInfo info;
  const auto read = [&](const char* key, int64_t least, int64_t most,
                        int64_t* value) {
    const auto it = json.find(key);
    if (it == json.end() || !it->is_number_integer() ||
        it->get<int64_t>() < least || it->get<int64_t>() > most) {
      return InvalidInputError(context, ": ", key, ": expected ", least, " to ",
                               most, ", found ",
                               it == json.end() ? "none" : JsonForMessage(*it));
    }
    *value = it->get<int64_t>();
    return absl::OkStatus();
  };
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  QEFF_RETURN_IF_ERROR(read("vocab_size", 1, kMost, &info.vocab_size));
  QEFF_RETURN_IF_ERROR(read("top_k", 1, info.vocab_size, &info.top_k));
  QEFF_RETURN_IF_ERROR(
      read("sequence_length", 1, kMostTokens, &info.sequence_length));
  QEFF_RETURN_IF_ERROR(read("sequences", 1, kMost, &info.sequences));
  QEFF_RETURN_IF_ERROR(read("bos", -1, kMost, &info.bos));
  for (auto field : {std::make_pair("text", &info.text),
                     std::make_pair("teacher", &info.teacher)}) {
    const auto it = json.find(field.first);
    if (it == json.end() || !it->is_string()) {
      return InvalidInputError(context, ": ", field.first,
                               ": expected a string");
    }
    *field.second = it->get<std::string>();
  }
  return info;
}

absl::Status WriteTeacherCache(const TeacherCacheInfo& info, Teacher* teacher,
                               SequenceSampler* text, const std::string& output,
                               const TeacherCacheOptions& options,
                               ThreadPool* pool) {
  if (info.top_k < 1 || info.top_k > info.vocab_size) {
    return InvalidInputError("--top_k: expected 1 to ", info.vocab_size,
                             ", the teacher's tokens, found ", info.top_k);
  }
  return GuardMemory(
      [&] { return Writer(info, teacher, text, options, pool).Go(output); });
}

absl::StatusOr<std::unique_ptr<Teacher>> OpenTeacherCache(
    const std::string& folder, const std::string& teacher_fingerprint) {
  QEFF_ASSIGN_OR_RETURN(std::shared_ptr<const Checkpoint> checkpoint,
                        Checkpoint::Open(folder));
  QEFF_ASSIGN_OR_RETURN(const TeacherCacheInfo info,
                        TeacherCacheInfo::FromJson(checkpoint->config(),
                                                   checkpoint->config_path()));
  if (info.teacher != teacher_fingerprint) {
    return InvalidInputError(folder, ": is of another teacher: expected ",
                             teacher_fingerprint, ", found ", info.teacher);
  }
  std::vector<TensorView> views;
  for (const TensorInfo& tensor : TensorsOf(info)) {
    QEFF_ASSIGN_OR_RETURN(const TensorView view,
                          checkpoint->Get(tensor.name, tensor.shape));
    if (view.dtype != tensor.dtype) {
      return InvalidInputError(checkpoint->Place(tensor.name), ": expected ",
                               DTypeName(tensor.dtype), ", found ",
                               DTypeName(view.dtype));
    }
    views.push_back(view);
  }
  return std::unique_ptr<Teacher>(std::make_unique<CachedTeacher>(
      std::move(checkpoint), info, views[0], views[1], views[2], views[3]));
}

}  // namespace qeff
