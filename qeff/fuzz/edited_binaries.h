// SPDX-License-Identifier: Apache-2.0
//
// Valid binary files with one thing changed, each for another line of a reader
// that refuses it: what the checks before it let through only when all the rest
// is right. For files of JSON see edited_seeds.h.

#ifndef QEFF_FUZZ_EDITED_BINARIES_H_
#define QEFF_FUZZ_EDITED_BINARIES_H_

#include <string>
#include <vector>

#include "qeff/fuzz/seed_files.h"

namespace qeff {

// Of a GGUF file of a Llama model with SentencePiece's vocabulary, and of one
// of a GPT-2 with a vocabulary of three.
std::vector<SeedFile> EditedGgufs(const std::string& llama,
                                  const std::string& gpt2);

// Device packages of a model in float32.
std::vector<SeedFile> EditedPackages();

// config.json and model.safetensors of a teacher's cache; the first is valid.
std::vector<SeedFile> TeacherCacheSeeds();

}  // namespace qeff

#endif  // QEFF_FUZZ_EDITED_BINARIES_H_
