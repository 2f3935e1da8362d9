// SPDX-License-Identifier: Apache-2.0
//
// Valid JSON files with one value changed, each for another line of a reader,
// mostly one that refuses it: what a fuzzer, which knows no words, takes days
// to find.

#ifndef QEFF_FUZZ_EDITED_SEEDS_H_
#define QEFF_FUZZ_EDITED_SEEDS_H_

#include <vector>

#include "qeff/fuzz/seed_files.h"

namespace qeff {

// Of TokenizerJsonSeeds().
std::vector<SeedFile> EditedTokenizerJsons();

// Of the config.json of ConfigModels(), with the digit before it.
std::vector<SeedFile> EditedConfigs();

}  // namespace qeff

#endif  // QEFF_FUZZ_EDITED_SEEDS_H_
