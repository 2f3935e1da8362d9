// SPDX-License-Identifier: Apache-2.0
//
// What a fuzz target defines, and what it puts bytes into for readers that
// take a path. A target for bytes that are damaged at random but the same in
// every run is a test with mutate_testutil.h.

#ifndef QEFF_FUZZ_FUZZ_INPUT_H_
#define QEFF_FUZZ_FUZZ_INPUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace qeff {

// Defined by each target: reads `bytes`, which may be anything, as a user's
// command would read them from a file, and uses all that was read. Whatever
// ends the program is a finding. Errors: any but those that CheckFuzzResult
// refuses. What it keeps between calls must not change a result.
absl::Status ReadFuzzInput(absl::string_view bytes);

// Ends the program where `status` breaks what every reader promises: an error
// has a message; none is kInternal or kUnknown, which no file can cause; and
// none is kResourceExhausted, as inputs are small.
void CheckFuzzResult(const absl::Status& status);

// A file that is only in memory. Not thread-safe.
class MemoryFile {
 public:
  MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile();

  // Replaces all bytes. Not while somebody has it mapped.
  void Write(absl::string_view bytes);

  // Can be opened, as a regular file, while this object lives.
  const std::string& path() const { return path_; }

 private:
  int fd_;
  std::string path_;
};

// A folder in memory, removed with the object. Not thread-safe.
class MemoryFolder {
 public:
  MemoryFolder();
  MemoryFolder(const MemoryFolder&) = delete;
  MemoryFolder& operator=(const MemoryFolder&) = delete;
  ~MemoryFolder();

  // Replaces the file `name`.
  void Write(const std::string& name, absl::string_view bytes) const;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// `bytes` as that many files, cut at the first NULs: for formats of several
// files, all but the last of which are texts. Those missing are empty.
std::vector<absl::string_view> SplitFuzzInput(absl::string_view bytes,
                                              size_t files);

// Reads each byte, so that a sanitizer sees any that is not there.
void ReadAllBytes(absl::Span<const uint8_t> bytes);

}  // namespace qeff

#endif  // QEFF_FUZZ_FUZZ_INPUT_H_
