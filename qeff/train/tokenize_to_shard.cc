// SPDX-License-Identifier: Apache-2.0

#include "qeff/train/tokenize_to_shard.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "qeff/train/token_shard_writer.h"
#include "qeff/util/check.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// Texts of a batch are tokenized at once: enough of them that threads have
// something to do, and few enough that little is in memory.
constexpr size_t kBatchBytes = size_t{4} << 20;
constexpr size_t kBatchDocuments = 4096;

// A line of `text` from `begin` on, without its end.
struct Line {
  absl::string_view text;
  size_t next;  // where the next one begins
};

Line LineAt(absl::string_view text, size_t begin) {
  const size_t end = std::min(text.find('\n', begin), text.size());
  Line line = {text.substr(begin, end - begin), std::min(end + 1, text.size())};
  if (!line.text.empty() && line.text.back() == '\r') {
    line.text.remove_suffix(1);
  }
  return line;
}

// The next document of `text` between empty lines, from `*position` on, which
// it moves; empty at the end.
absl::string_view NextDocument(absl::string_view text, size_t* position) {
  size_t begin = *position;
  for (; begin < text.size(); begin = LineAt(text, begin).next) {
    if (!LineAt(text, begin).text.empty()) break;
  }
  size_t end = begin, at = begin;
  while (at < text.size()) {
    const Line line = LineAt(text, at);
    if (line.text.empty()) break;
    end = at + line.text.size();
    at = line.next;
  }
  *position = at;
  return text.substr(begin, end - begin);
}

absl::string_view TextOf(const MappedFile& file) {
  return absl::string_view(reinterpret_cast<const char*>(file.bytes().data()),
                           file.bytes().size());
}

// Work of one call of TokenizeToShard.
class ShardTokenizer {
 public:
  ShardTokenizer(const PortableTokenizer& tokenizer,
                 const TokenizeOptions& options, uint64_t total_bytes,
                 TokenShardWriter& writer, ThreadPool& pool)
      : tokenizer_(tokenizer),
        options_(options),
        total_bytes_(total_bytes),
        writer_(writer),
        pool_(pool) {}

  absl::Status AddFile(const std::shared_ptr<const MappedFile>& file) {
    const absl::string_view text = TextOf(*file);
    if (options_.documents == DocumentKind::kFiles) {
      return AddDocument(file, text);
    }
    for (size_t position = 0; position < text.size();) {
      const absl::string_view document = NextDocument(text, &position);
      if (!document.empty()) QEFF_RETURN_IF_ERROR(AddDocument(file, document));
    }
    return absl::OkStatus();
  }

  // Tokenizes and writes what was added.
  absl::Status Flush() {
    if (options_.check) QEFF_RETURN_IF_ERROR(options_.check());
    std::vector<absl::StatusOr<std::vector<int32_t>>> ids(batch_.size());
    pool_.ParallelFor(static_cast<int64_t>(batch_.size()),
                      BalancedGrain(static_cast<int64_t>(batch_.size()),
                                    pool_.num_threads(), 1),
                      [&](int64_t begin, int64_t end, int /*thread*/) {
                        for (int64_t i = begin; i < end; ++i) {
                          ids[static_cast<size_t>(i)] =
                              Encode(batch_[static_cast<size_t>(i)]);
                        }
                      });
    for (size_t i = 0; i < batch_.size(); ++i) {
      QEFF_RETURN_IF_ERROR(ids[i].status());
      if (!ids[i]->empty()) QEFF_RETURN_IF_ERROR(writer_.Append(*ids[i]));
    }
    QEFF_RETURN_IF_ERROR(ReleaseBatch());
    done_bytes_ += batch_bytes_;
    batch_bytes_ = 0;
    if (options_.progress) options_.progress(done_bytes_, total_bytes_);
    return absl::OkStatus();
  }

 private:
  struct Document {
    std::shared_ptr<const MappedFile> file;
    absl::string_view text;  // inside it
  };

  absl::Status AddDocument(const std::shared_ptr<const MappedFile>& file,
                           absl::string_view text) {
    batch_.push_back({file, text});
    batch_bytes_ += text.size();
    if (batch_bytes_ < kBatchBytes && batch_.size() < kBatchDocuments) {
      return absl::OkStatus();
    }
    return Flush();
  }

  absl::StatusOr<std::vector<int32_t>> Encode(const Document& document) const {
    const std::string& path = document.file->path();
    const size_t nul = document.text.find('\0');
    if (nul != absl::string_view::npos) {
      return InvalidInputError(
          path, ": expected text, found a NUL byte at ",
          static_cast<size_t>(document.text.data() -
                              TextOf(*document.file).data()) +
              nul);
    }
    QEFF_ASSIGN_OR_RETURN(
        std::vector<int32_t> ids,
        tokenizer_.Encode(document.text, /*add_special_tokens=*/false), path);
    if (ids.empty()) return ids;
    if (options_.bos.has_value()) ids.insert(ids.begin(), *options_.bos);
    if (options_.eos.has_value()) ids.push_back(*options_.eos);
    return ids;
  }

  // Lets go of the batch's files and of their pages.
  absl::Status ReleaseBatch() {
    const MappedFile* last = nullptr;
    for (const Document& document : batch_) {
      if (document.file.get() != last) {
        QEFF_RETURN_IF_ERROR(document.file->VerifyUnchanged());
      }
      last = document.file.get();
    }
    if (!batch_.empty() && batch_.front().file.get() == last) {
      // Of several files all but the last are closed.
      const char* begin = batch_.front().text.data();
      const char* end = batch_.back().text.data() + batch_.back().text.size();
      last->Release(absl::MakeSpan(reinterpret_cast<const uint8_t*>(begin),
                                   static_cast<size_t>(end - begin)));
    }
    batch_.clear();
    return absl::OkStatus();
  }

  const PortableTokenizer& tokenizer_;
  const TokenizeOptions& options_;
  const uint64_t total_bytes_;
  TokenShardWriter& writer_;
  ThreadPool& pool_;
  std::vector<Document> batch_;
  size_t batch_bytes_ = 0;
  uint64_t done_bytes_ = 0;
};

absl::Status CheckSpecial(absl::string_view name, absl::optional<int32_t> id,
                          const PortableTokenizer& tokenizer) {
  if (!id.has_value() || (*id >= 0 && *id < tokenizer.vocab_size())) {
    return absl::OkStatus();
  }
  return InvalidInputError(name, ": expected an id below ",
                           tokenizer.vocab_size(), ", found ", *id);
}

// The bytes of all files, which exist, hold something and are not `output`.
absl::StatusOr<uint64_t> TotalBytes(const std::vector<std::string>& files,
                                    const std::string& output) {
  if (files.empty()) return InvalidInputError("no text files were given");
  struct stat target;
  const bool replaces = stat(output.c_str(), &target) == 0;
  uint64_t total_bytes = 0;
  for (const std::string& path : files) {
    QEFF_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
    if (file->size_bytes() == 0) {
      return InvalidInputError(path, ": the file is empty");
    }
    if (replaces && file->SameFile(target.st_dev, target.st_ino)) {
      return InvalidInputError(output, ": the output is the text file ", path);
    }
    total_bytes += file->size_bytes();
  }
  return total_bytes;
}

}  // namespace

absl::StatusOr<DocumentKind> ParseDocumentKind(absl::string_view name) {
  for (const DocumentKind kind :
       {DocumentKind::kBlankLines, DocumentKind::kFiles}) {
    if (name == DocumentKindName(kind)) return kind;
  }
  return InvalidInputError("\"", name, "\": expected blank_lines or files");
}

absl::string_view DocumentKindName(DocumentKind kind) {
  switch (kind) {
    case DocumentKind::kBlankLines:
      return "blank_lines";
    case DocumentKind::kFiles:
      return "files";
  }
  QEFF_CHECK(false && "unknown kind of document");
}

absl::Status TokenizeToShard(const std::vector<std::string>& files,
                             const PortableTokenizer& tokenizer,
                             const TokenizeOptions& options,
                             const std::string& output, ThreadPool& pool) {
  QEFF_RETURN_IF_ERROR(CheckSpecial("bos", options.bos, tokenizer));
  QEFF_RETURN_IF_ERROR(CheckSpecial("eos", options.eos, tokenizer));
  QEFF_ASSIGN_OR_RETURN(const uint64_t total_bytes, TotalBytes(files, output));
  QEFF_ASSIGN_OR_RETURN(const auto writer, TokenShardWriter::Create(
                                               output, tokenizer.vocab_size()));
  ShardTokenizer work(tokenizer, options, total_bytes, *writer, pool);
  for (const std::string& path : files) {
    QEFF_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
    QEFF_RETURN_IF_ERROR(work.AddFile(file));
  }
  QEFF_RETURN_IF_ERROR(work.Flush());
  if (writer->documents() == 0) {
    return InvalidInputError(files.front(), files.size() == 1 ? "" : ", ...",
                             ": there is no text in it");
  }
  return writer->Commit();
}

}  // namespace qeff
