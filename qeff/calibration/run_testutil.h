// SPDX-License-Identifier: Apache-2.0
//
// For tests of runs that are interrupted: a sample, what came out, and
// processes that can be killed.

#ifndef QEFF_CALIBRATION_RUN_TESTUTIL_H_
#define QEFF_CALIBRATION_RUN_TESTUTIL_H_

#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "qeff/calibration/token_sampler.h"
#include "qeff/io/io_testutil.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/util/checksum.h"
#include "qeff/util/mapped_file.h"
#include "qeff/util/output_file.h"
#include "qeff/util/random.h"

namespace qeff {

// Sequences of different lengths.
inline TokenSample RandomTokens(const TransformerSpec& spec) {
  TokenSample sample;
  Random random(5);
  for (const int length : {40, 7, 64, 33, 64, 50}) {
    std::vector<int32_t> sequence;
    for (int i = 0; i < length; ++i) {
      sequence.push_back(static_cast<int32_t>(
          random.NextBelow(static_cast<uint64_t>(spec.vocab_size))));
    }
    sample.tokens += length;
    sample.sequences.push_back(std::move(sequence));
  }
  return sample;
}

// All files of a folder, by name, as one text with their checksums.
inline std::string FolderFingerprint(const std::string& folder) {
  std::string text;
  for (const std::string& name : ListTestFolder(folder)) {
    const auto content = ReadFileToString(folder + "/" + name, 1 << 30);
    if (!content.ok()) return content.status().ToString();
    absl::StrAppend(&text, name, " ", absl::Hex(Checksum64(AsBytes(*content))),
                    "\n");
  }
  return text;
}

// Runs `body` in a process of its own, which is killed after `kill_after_us`
// unless that is negative. Returns what waitpid says: 0 when `body` returned
// true.
inline int RunProcess(const std::function<bool()>& body,
                      int64_t kill_after_us) {
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  if (kill_after_us >= 0) {
    usleep(static_cast<useconds_t>(kill_after_us));
    kill(child, SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

}  // namespace qeff

#endif  // QEFF_CALIBRATION_RUN_TESTUTIL_H_
