// SPDX-License-Identifier: Apache-2.0

#include "qeff/io/model_fingerprint.h"

#include "gtest/gtest.h"
#include "qeff/io/io_testutil.h"

namespace qeff {
namespace {

constexpr int64_t kElems = 5000;  // 20 kB: more than a fingerprint looks at

// A model of one tensor with `value` at `index`.
std::shared_ptr<const Checkpoint> Model(int64_t index, float value,
                                        const std::string& config = "{}") {
  const std::string folder = MakeTestFolder();
  TestTensor tensor{"w", {kElems}, std::vector<float>(kElems, 1.0f)};
  tensor.values[static_cast<size_t>(index)] = value;
  WriteTestCheckpoint(folder, config, {tensor});
  return *Checkpoint::Open(folder);
}

TEST(ModelFingerprintTest, SeesBeginningsAndConfig) {
  const std::string base = *ModelFingerprint(*Model(0, 1));
  EXPECT_EQ(*ModelFingerprint(*Model(0, 1)), base);
  EXPECT_NE(*ModelFingerprint(*Model(0, 2)), base);
  EXPECT_NE(*ModelFingerprint(*Model(0, 1, "{\"a\":1}")), base);
  EXPECT_EQ(*ModelFingerprint(*Model(kElems - 1, 2)), base);
}

TEST(ModelContentFingerprintTest, SeesEveryWeight) {
  const std::string base = *ModelContentFingerprint(*Model(0, 1));
  EXPECT_EQ(*ModelContentFingerprint(*Model(0, 1)), base);
  for (const int64_t index : {int64_t{0}, kElems / 2, kElems - 1}) {
    EXPECT_NE(*ModelContentFingerprint(*Model(index, 2)), base) << index;
  }
  EXPECT_NE(*ModelContentFingerprint(*Model(0, 1, "{\"a\":1}")), base);
}

}  // namespace
}  // namespace qeff
