// SPDX-License-Identifier: Apache-2.0
//
// One safetensors file: its header, and the data of every tensor.

#include "qeff/fuzz/fuzz_input.h"
#include "qeff/io/safetensors.h"
#include "qeff/io/safetensors_header.h"
#include "qeff/util/check.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {

absl::Status ReadFuzzInput(absl::string_view bytes) {
  // From memory first: a sanitizer sees there what lies behind the end, and
  // most inputs go no further.
  QEFF_RETURN_IF_ERROR(ParseSafetensorsHeader(AsBytes(bytes), "f").status(),
                       "header");
  static MemoryFile* const kFile = new MemoryFile;
  kFile->Write(bytes);
  QEFF_ASSIGN_OR_RETURN(const auto file, SafetensorsFile::Open(kFile->path()));
  uint64_t end = 0;
  for (const SafetensorsEntry& entry : file->header().entries) {
    QEFF_CHECK(entry.begin_bytes == end);
    end = entry.end_bytes;
    QEFF_CHECK(file->Find(entry.name) == &entry);
    const TensorView view = file->View(entry);
    QEFF_CHECK(view.bytes.size() == entry.end_bytes - entry.begin_bytes);
    ReadAllBytes(view.bytes);
  }
  return absl::OkStatus();
}

}  // namespace qeff
