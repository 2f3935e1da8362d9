// SPDX-License-Identifier: Apache-2.0
//
// Reads every file of the folders in its arguments once, without libFuzzer.
// Fails where none of them is accepted: the format has then left the corpus
// behind, and a fuzzer would see little but its first check.

#include <cstdio>
#include <filesystem>
#include <string>

#include "absl/strings/escaping.h"
#include "qeff/fuzz/fuzz_input.h"
#include "qeff/util/mapped_file.h"

int main(int argc, char** argv) {
  int read = 0, accepted = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      const auto bytes = qeff::ReadFileToString(entry.path(), 64 << 20);
      if (!bytes.ok()) continue;
      const absl::Status status = qeff::ReadFuzzInput(*bytes);
      qeff::CheckFuzzResult(status);
      if (!status.ok()) {
        std::printf("%s: %s\n", entry.path().c_str(),
                    absl::CHexEscape(status.message()).c_str());
      }
      ++read;
      accepted += status.ok() ? 1 : 0;
    }
  }
  std::printf("%d inputs read, %d accepted\n", read, accepted);
  return accepted > 0 ? 0 : 1;
}
