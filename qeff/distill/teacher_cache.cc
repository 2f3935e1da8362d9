// SPDX-License-Identifier: Apache-2.0

#include "qeff/distill/teacher_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "qeff/calibration/journal.h"
#include "qeff/io/checkpoint.h"
#include "qeff/io/checkpoint_writer.h"
#include "qeff/transformer/memory_guard.h"
#include "qeff/util/check.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr char kKind[] = "qeff_teacher_cache";
constexpr char kIds[] = "ids", kLogs[] = "log_probabilities",
               kRest[] = "log_rest";
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
          {kRest, DType::kF16, Shape({rows})}};
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
    description["version"] = 1;
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
    for (const char* name : {kIds, kLogs, kRest}) {
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
    const uint64_t row = static_cast<uint64_t>(first * info_.sequence_length);
    QEFF_RETURN_IF_ERROR(
        writer_->Write(kIds, row * static_cast<uint64_t>(id_bytes), packed));
    QEFF_RETURN_IF_ERROR(
        WriteF16(kLogs, row * static_cast<uint64_t>(info_.top_k), logs.span()));
    return WriteF16(kRest, row, rest);
  }

  absl::Status WriteF16(const char* name, uint64_t first,
                        absl::Span<const float> values) {
    std::vector<uint16_t> bits(values.size());
    std::transform(values.begin(), values.end(), bits.begin(), FloatToF16);
    return writer_->Write(
        name, first * sizeof(uint16_t),
        absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(bits.data()),
                            bits.size() * sizeof(uint16_t)));
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
                TensorView rest)
      : checkpoint_(std::move(checkpoint)),
        info_(info),
        ids_(ids),
        logs_(logs),
        rest_(rest) {}

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
  const TensorView ids_, logs_, rest_;
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
      std::move(checkpoint), info, views[0], views[1], views[2]));
}

}  // namespace qeff
