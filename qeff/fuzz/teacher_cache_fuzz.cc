// SPDX-License-Identifier: Apache-2.0
//
// A teacher's cache: config.json, then model.safetensors, as it is and then
// with checksums that fit. What is accepted says what it has of two sequences.

#include <cstring>
#include <string>

#include "qeff/distill/teacher_cache.h"
#include "qeff/fuzz/fuzz_input.h"
#include "qeff/io/safetensors_header.h"
#include "qeff/util/checksum.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

// See teacher_cache.h.
std::string WithChecksums(absl::string_view bytes) {
  std::string fixed(bytes);
  const auto header = ParseSafetensorsHeader(AsBytes(bytes), "f");
  if (!header.ok()) return fixed;
  // The bytes of a tensor, where they are and how many.
  const auto find = [&](absl::string_view name) -> absl::Span<uint8_t> {
    for (const SafetensorsEntry& entry : header->entries) {
      if (entry.name != name) continue;
      const size_t begin = header->data_begin_bytes + entry.begin_bytes;
      return {reinterpret_cast<uint8_t*>(&fixed[begin]),
              static_cast<size_t>(entry.end_bytes - entry.begin_bytes)};
    }
    return {};
  };
  const absl::Span<uint8_t> checksums = find("checksums");
  const size_t sequences = checksums.size() / 8;
  for (size_t i = 0; i < sequences; ++i) {
    uint64_t sums[3];
    size_t part = 0;
    for (const char* name : {"ids", "log_probabilities", "log_rest"}) {
      const absl::Span<uint8_t> all = find(name);
      const size_t size = all.size() / sequences;
      sums[part++] = Checksum64(all.subspan(i * size, size));
    }
    const uint64_t sum = Checksum64(AsBytes(absl::MakeConstSpan(sums)));
    std::memcpy(&checksums[i * 8], &sum, sizeof(sum));
  }
  return fixed;
}

absl::Status Read(absl::string_view config, absl::string_view tensors) {
  static const MemoryFolder folder;  // removed at the end
  folder.Write("config.json", config);
  folder.Write("model.safetensors", tensors);
  QEFF_ASSIGN_OR_RETURN(const auto teacher,
                        OpenTeacherCache(folder.path(), "t"));
  // How long a sequence is stands in the file; those of the seeds are of 8.
  TokenBatch batch;
  batch.ids.resize(8);
  for (const int64_t sequence : {0, 1}) {
    batch.sequences = {sequence};
    QEFF_RETURN_IF_ERROR(teacher->Run(batch));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadFuzzInput(absl::string_view bytes) {
  const auto files = SplitFuzzInput(bytes, 2);
  CheckFuzzResult(Read(files[0], files[1]));
  return Read(files[0], WithChecksums(files[1]));
}

}  // namespace qeff
