// SPDX-License-Identifier: Apache-2.0
//
// sentencepiece_oracle TRAINING_ARGUMENTS MODEL TEXTS OUTPUT: trains MODEL as
// spm_train does and writes the ids that libsentencepiece gives to each record
// of TEXTS, as encode_main. A program of its own: libsentencepiece holds an
// older Abseil, and one process cannot have both.

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const auto trained = sentencepiece::SentencePieceTrainer::Train(argv[1]);
  sentencepiece::SentencePieceProcessor processor;
  if (!trained.ok() || !processor.Load(argv[2]).ok()) {
    std::fprintf(stderr, "%s\n", trained.ToString().c_str());
    return 3;
  }
  std::ifstream file(argv[3], std::ios::binary);
  std::ostringstream buffer;
  buffer << file.rdbuf();
  const std::string text = buffer.str();
  const std::string separator = "\n<record>\n";
  std::ofstream output(argv[4]);
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    std::vector<int> ids;
    if (!processor.Encode(text.substr(begin, end - begin), &ids).ok()) return 3;
    for (size_t i = 0; i < ids.size(); ++i) output << (i ? "," : "") << ids[i];
    output << "\n";
    begin = end + separator.size();
  }
  return output.good() ? 0 : 4;
}
