// SPDX-License-Identifier: Apache-2.0
//
// The C interface, used from C and through the C++ handles.

#include "qeff/device/qeff_rt.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/device/engine.h"
#include "qeff/device/package/package_testutil.h"
#include "qeff/device/qeff_rt_c_testutil.h"
#include "qeff/device/qeff_rt_cpp.h"
#include "qeff/device/reference_model.h"
#include "qeff/parallel/thread_pool.h"

namespace qeff {
namespace {

using ::testing::HasSubstr;

class QeffRtTest : public ::testing::Test {
 protected:
  QeffRtTest() {
    WriteFile(path_, PackageBytes(*RandomModel(SmallSpec(), 1), nullptr));
  }
  ~QeffRtTest() override { std::remove(path_.c_str()); }

  qeff_rt_cpp::Package Open() {
    qeff_rt_cpp::Package package;
    EXPECT_EQ(qeff_rt_cpp::Open(path_, &package, &error_), QEFF_RT_OK)
        << error_.message;
    return package;
  }

  const std::string path_ = testing::TempDir() + "/qeff_rt.qeff";
  qeff_rt_error error_ = {};
};

TEST_F(QeffRtTest, RunsFromCAsTheEngineDoes) {
  const std::vector<int32_t> prompt = {1, 2, 3};
  std::vector<int32_t> made(6);
  ASSERT_EQ(ContinueInC(path_.c_str(), prompt.data(), prompt.size(),
                        made.data(), made.size(), &error_),
            QEFF_RT_OK)
      << error_.message;
  const auto pool = *CreateThreadPool(1);
  EngineOptions options;
  options.context_length = 48;
  options.activations = Activations::kFloat32;
  options.kv_cache = DType::kF16;
  auto engine =
      Engine::Create(RandomModel(SmallSpec(), 1), pool.get(), options);
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::vector<int32_t> tokens = prompt;
  for (const int32_t token : made) {
    const auto logits = (*engine)->Append(tokens);
    ASSERT_TRUE(logits.ok()) << logits.status();
    EXPECT_EQ(token, std::max_element(logits->begin(), logits->end()) -
                         logits->begin());
    tokens = {token};
  }
}

TEST_F(QeffRtTest, VersionsAreCompared) {
  EXPECT_EQ(qeff_rt_abi_version(), QEFF_RT_ABI_VERSION);
  qeff_rt_package* package = nullptr;
  EXPECT_EQ(qeff_rt_package_open(QEFF_RT_ABI_VERSION + 1, path_.c_str(),
                                 &package, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  EXPECT_EQ(package, nullptr);
  EXPECT_THAT(error_.message, HasSubstr("version"));
}

TEST_F(QeffRtTest, Slots) {
  const auto package = Open();
  EXPECT_EQ(qeff_rt_package_vocab_size(package.get()), 50);
  qeff_rt_cpp::Engine engine;
  qeff_rt_engine_options options = {};
  options.batch_size = 2;
  options.threads = 1;
  ASSERT_EQ(qeff_rt_cpp::Create(package, options, &engine, &error_), QEFF_RT_OK)
      << error_.message;
  const int32_t tokens[] = {4, 5};
  const float* logits = nullptr;
  std::vector<float> first;
  for (const int64_t slot : {0, 1, 0}) {
    ASSERT_EQ(
        qeff_rt_engine_append(engine.get(), slot, tokens, 2, &logits, &error_),
        QEFF_RT_OK)
        << error_.message;
    const std::vector<float> found(logits, logits + 50);
    if (first.empty()) first = found;
    EXPECT_EQ(found, first);
    ASSERT_EQ(qeff_rt_engine_reset(engine.get(), slot, &error_), QEFF_RT_OK);
  }
}

TEST_F(QeffRtTest, Errors) {
  qeff_rt_cpp::Package package;
  EXPECT_EQ(qeff_rt_cpp::Open(path_ + ".none", &package, &error_),
            QEFF_RT_NOT_FOUND);
  EXPECT_THAT(error_.message, HasSubstr(".none"));
  EXPECT_EQ(
      qeff_rt_cpp::Open(path_ + std::string(5000, 'x'), &package, nullptr),
      QEFF_RT_UNAVAILABLE);
  package = Open();
  EXPECT_EQ(qeff_rt_package_has_tokenizer(package.get()), 0);
  size_t count = 0;
  EXPECT_EQ(qeff_rt_package_encode(package.get(), "a", 1, 1, nullptr, 0, &count,
                                   &error_),
            QEFF_RT_NOT_FOUND);
  EXPECT_THAT(error_.message, HasSubstr("no tokenizer"));
  qeff_rt_cpp::Engine engine;
  qeff_rt_engine_options options = {};
  options.threads = -1;
  EXPECT_EQ(qeff_rt_cpp::Create(package, options, &engine, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  options.threads = 1;
  options.context_length = 2;
  ASSERT_EQ(qeff_rt_cpp::Create(package, options, &engine, &error_),
            QEFF_RT_OK);
  const int32_t tokens[] = {1, 2, 99};
  const float* logits = nullptr;
  EXPECT_EQ(qeff_rt_engine_append(engine.get(), 0, tokens, 3, &logits, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  EXPECT_EQ(qeff_rt_engine_append(engine.get(), 7, tokens, 2, &logits, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  EXPECT_EQ(qeff_rt_engine_reset(engine.get(), -1, &error_),
            QEFF_RT_INVALID_ARGUMENT);
  const int32_t fits[] = {1, 2};
  EXPECT_EQ(qeff_rt_engine_append(engine.get(), 0, fits, 2, &logits, &error_),
            QEFF_RT_OK);
  EXPECT_EQ(qeff_rt_engine_append(engine.get(), 0, fits, 1, &logits, &error_),
            QEFF_RT_OUT_OF_RANGE);
}

}  // namespace
}  // namespace qeff
