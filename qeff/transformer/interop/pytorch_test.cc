// SPDX-License-Identifier: Apache-2.0
//
// Every family and variant against PyTorch: make_references.py makes random
// checkpoints and their logits.

#include <sys/wait.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"
#include "qeff/transformer/host_forward.h"
#include "qeff/transformer/reference_testutil.h"
#include "qeff/util/json.h"
#include "qeff/util/mapped_file.h"

namespace qeff {
namespace {

constexpr char kScript[] = "qeff/transformer/interop/make_references.py";

void Compare(const std::string& folder) {
  const Json ids = *ReadJsonFile(folder + "/tokens.json", 1 << 20);
  const std::string bytes = *ReadFileToString(folder + "/logits.f32", 1 << 24);
  const auto pool = *CreateThreadPool(2);
  const auto model = Transformer::Load(*Checkpoint::Open(folder));
  ASSERT_TRUE(model.ok()) << model.status();
  const auto forward = *HostForward::Create(*model, pool.get());
  const auto logits = forward->LogitsOf(ids.get<std::vector<int32_t>>());
  ASSERT_TRUE(logits.ok()) << logits.status();
  ASSERT_EQ(bytes.size(), logits->span().size() * sizeof(float));
  std::vector<float> reference(logits->span().size());
  std::memcpy(reference.data(), bytes.data(), bytes.size());
  Matrix<double> expected(logits->rows(), logits->cols());
  std::copy(reference.begin(), reference.end(), expected.data());
  const double error = RelativeError(*logits, expected);
  std::printf("%-28s %.2e\n", folder.substr(folder.rfind('/') + 1).c_str(),
              error);
  EXPECT_LE(error, 1e-4);
}

TEST(PyTorchTest, LogitsAgreeForEveryVariant) {
  const std::string root = MakeTestFolder();
  const std::string command =
      std::string("/usr/bin/python3 ") + kScript + " '" + root + "'";
  const int status = std::system(command.c_str());
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
    GTEST_SKIP() << "python3-torch is not installed";
  }
  ASSERT_EQ(status, 0) << command;
  const std::vector<std::string> variants = ListTestFolder(root);
  EXPECT_GE(variants.size(), 30u);
  for (const std::string& variant : variants) {
    SCOPED_TRACE(variant);
    Compare(root + "/" + variant);
  }
}

}  // namespace
}  // namespace qeff
