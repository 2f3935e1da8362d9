// SPDX-License-Identifier: Apache-2.0
//
// Writes FOLDER/TARGET/seed-NAME for every fuzz target: valid files that have
// each construct of their format, where a fuzzer would not find it soon. For a
// target that is new, and for a format that has changed:
//   bazel run //qeff/fuzz:make_seeds -- "${PWD}/qeff/fuzz/corpus"

#include <cstdio>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

class Seeds {
 public:
  Seeds(const std::string& folder, const std::string& target)
      : folder_(absl::StrCat(folder, "/", target)) {
    std::filesystem::create_directories(folder_);
  }

  void Add(absl::string_view name, absl::string_view bytes) const {
    WriteTestFile(absl::StrCat(folder_, "/seed-", name), bytes);
  }

 private:
  const std::string folder_;
};

void Safetensors(const Seeds& seeds) {
  seeds.Add("small",
            SafetensorsBytes(
                R"({"__metadata__":{"format":"pt"},)"
                R"("a.b":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]},)"
                R"("c\u00e9":{"dtype":"F32","shape":[],"data_offsets":[4,8]}})",
                "12345678"));
  // Every dtype of the format, supported or not, and a tensor of no bytes.
  std::string header = "{";
  for (const char* dtype :
       {"BOOL", "U8",  "I8",   "F8_E5M2", "F8_E4M3", "F8_E8M0", "I16",
        "U16",  "F16", "BF16", "I32",     "U32",     "F32",     "F64",
        "I64",  "U64", "C64",  "F4",      "F6_E2M3", "F6_E3M2"}) {
    const std::string entry =
        absl::StrCat("\"", dtype, R"(":{"dtype":")", dtype,
                     R"(","shape":[2,0],"data_offsets":[0,0]})");
    absl::StrAppend(&header, header.size() == 1 ? "" : ",", entry);
    seeds.Add(absl::StrCat("dtype-", dtype),
              SafetensorsBytes(absl::StrCat("{", entry, "}  "), ""));
  }
  seeds.Add("dtypes", SafetensorsBytes(header + "}", ""));
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_seeds FOLDER\n");
    return 2;
  }
  const std::string folder = argv[1];
  qeff::Safetensors(qeff::Seeds(folder, "safetensors"));
  return 0;
}
