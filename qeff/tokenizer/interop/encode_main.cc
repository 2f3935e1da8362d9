// SPDX-License-Identifier: Apache-2.0
//
// encode_main FOLDER FILE OUTPUT: encodes FILE in records of consecutive lines
// and writes the ids of each as one line of OUTPUT. A record ends after a line
// "<record>", which is not part of it.

#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "qeff/tokenizer/tokenizer.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: encode_main FOLDER FILE OUTPUT\n");
    return 2;
  }
  auto tokenizer = qeff::Tokenizer::FromFolder(argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 3;
  }
  std::ifstream file(argv[2], std::ios::binary);
  std::ostringstream buffer;
  buffer << file.rdbuf();
  const std::string text = buffer.str();
  std::ofstream output(argv[3]);
  for (const absl::string_view record : absl::StrSplit(text, "\n<record>\n")) {
    const auto ids = (*tokenizer)->Encode(record, true);
    if (!ids.ok()) {
      std::fprintf(stderr, "%s\n", ids.status().ToString().c_str());
      return 3;
    }
    output << absl::StrJoin(*ids, ",") << "\n";
  }
  output.close();
  return file.good() && output.good() ? 0 : 4;
}
