// SPDX-License-Identifier: Apache-2.0
//
// Packages form layers: one may use itself and those above it in kOrder. Reads
// the graph of targets that Bazel's query prints.

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "qeff/util/mapped_file.h"

namespace qeff {
namespace {

// Of qeff, and of qeff_mpi.
std::vector<std::string>* graph_paths = new std::vector<std::string>;

// The order of README.md.
const std::vector<std::string>& Order() {
  static const auto* order = new std::vector<std::string>{
      "qeff/util",      "qeff/tensor",      "qeff/parallel",
      "qeff/spec",      "qeff/format",      "qeff/kernels",
      "qeff/tokenizer", "qeff/device",      "qeff/io",
      "qeff/xnnpack",   "qeff/transformer", "qeff/compile",
      "qeff/eval",      "qeff/calibration", "qeff/quant",
      "qeff/prune",     "qeff/train",       "qeff/distill",
      "qeff/export",    "qeff/pipeline",    "qeff/base",
      "tools"};
  return *order;
}

// Index in Order() of the package of `label`, -1 for external ones.
int Layer(absl::string_view label) {
  if (!absl::ConsumePrefix(&label, "//")) return -1;
  const absl::string_view package = label.substr(0, label.find(':'));
  for (size_t i = 0; i < Order().size(); ++i) {
    if (package == Order()[i] || absl::StartsWith(package, Order()[i] + "/")) {
      return static_cast<int>(i);
    }
  }
  ADD_FAILURE() << package << " is not in the order of packages";
  return -1;
}

std::string Graph(size_t i) {
  const auto dot = ReadFileToString((*graph_paths)[i], 64 << 20);
  EXPECT_TRUE(dot.ok()) << dot.status();
  return dot.value_or("");
}

TEST(PackageGraphTest, OneBinaryLinksMpi) {
  EXPECT_FALSE(absl::StrContains(Graph(0), "@openmpi//"));
  EXPECT_TRUE(absl::StrContains(Graph(1), "@openmpi//"));
}

TEST(PackageGraphTest, FollowsTheOrder) {
  int edges = 0;
  const std::string graphs = Graph(0) + Graph(1);
  for (absl::string_view line : absl::StrSplit(graphs, '\n')) {
    const std::vector<absl::string_view> ends =
        absl::StrSplit(line, absl::MaxSplits(" -> ", 1));
    if (ends.size() != 2) continue;
    const auto unquote = [](absl::string_view text) {
      text = absl::StripAsciiWhitespace(text);
      absl::ConsumePrefix(&text, "\"");
      absl::ConsumeSuffix(&text, "\"");
      return text;
    };
    const int from = Layer(unquote(ends[0]));
    const int to = Layer(unquote(ends[1]));
    if (from < 0 || to < 0) continue;
    ++edges;
    EXPECT_LE(to, from) << unquote(ends[0]) << " must not depend on "
                        << unquote(ends[1]);
  }
  // The test has seen the real graph.
  EXPECT_GT(edges, 200);
}

}  // namespace
}  // namespace qeff

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc != 3) return 2;
  *qeff::graph_paths = {argv[1], argv[2]};
  return RUN_ALL_TESTS();
}
