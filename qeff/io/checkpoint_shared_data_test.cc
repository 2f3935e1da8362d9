// SPDX-License-Identifier: Apache-2.0

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "qeff/io/checkpoint.h"

namespace qeff {
namespace {

// Real checkpoints, written by other programs.
TEST(SharedCheckpointTest, OpensRealModels) {
  const char* data = std::getenv("QEFF_SHARED_DATA");
  if (data == nullptr) GTEST_SKIP() << "QEFF_SHARED_DATA is not set";
  for (const char* name :
       {"stories260k", "stories260k_pad192", "tinystories6m", "goldens/llama",
        "goldens/qwen2", "goldens/qwen3", "goldens/gpt2", "goldens/mpt"}) {
    const auto checkpoint = Checkpoint::Open(absl::StrCat(data, "/", name));
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_GT((*checkpoint)->tensors().size(), 10u);
    EXPECT_TRUE((*checkpoint)->warnings().empty());
  }
}

}  // namespace
}  // namespace qeff
