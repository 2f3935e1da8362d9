// SPDX-License-Identifier: Apache-2.0
//
// Valid small files that more than one program needs: make_seeds, which writes
// them as seeds, and the targets that run something else through them.

#ifndef QEFF_FUZZ_SEED_FILES_H_
#define QEFF_FUZZ_SEED_FILES_H_

#include <string>
#include <vector>

#include "qeff/util/json.h"

namespace qeff {

struct SeedFile {
  std::string name;
  std::string bytes;
};

// tokenizer.json of each model, and with each stage of a pipeline. The first is
// byte-level without a normalizer.
std::vector<SeedFile> TokenizerJsonSeeds();

// tokenizer.model: unigram and BPE, with and without byte fallback.
std::vector<SeedFile> TokenizerModelSeeds();

// Describes the run of train_state_fuzz.cc.
Json TrainStateDescription();

}  // namespace qeff

#endif  // QEFF_FUZZ_SEED_FILES_H_
