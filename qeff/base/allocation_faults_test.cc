// SPDX-License-Identifier: Apache-2.0
//
// Operator new fails at each of the first 2000 allocations of what a program
// does with a model, or of all if there are fewer: once, as where memory is too
// fragmented, and from then on, as where it is out. That is a Status, and an
// output is whole or not there.

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "qeff/base/qeff_auto_model_for_causal_lm.h"
#include "qeff/format/quant_scheme.h"
#include "qeff/io/io_testutil.h"
#include "qeff/parallel/thread_pool.h"
#include "qeff/quant/quantize_transform.h"
#include "qeff/tokenizer/tokenizer_testutil.h"
#include "qeff/util/fault_testutil.h"
#include "qeff/util/json.h"
#include "qeff/util/memory_guard.h"
#include "qeff/util/status.h"

namespace {

std::atomic<int64_t> allocations{0};
std::atomic<int64_t> first_failing{0};
std::atomic<int64_t> last_failing{0};

void* Allocate(size_t bytes, size_t alignment) {
  const int64_t n = ++allocations;
  if (n >= first_failing && n <= last_failing) return nullptr;
  void* data = nullptr;
  return posix_memalign(&data, std::max(alignment, sizeof(void*)),
                        std::max<size_t>(bytes, 1)) == 0
             ? data
             : nullptr;
}

void* AllocateOrThrow(size_t bytes, size_t alignment) {
  void* const data = Allocate(bytes, alignment);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

}  // namespace

void* operator new(size_t bytes) { return AllocateOrThrow(bytes, 16); }
void* operator new[](size_t bytes) { return AllocateOrThrow(bytes, 16); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return AllocateOrThrow(bytes, static_cast<size_t>(alignment));
}
void* operator new[](size_t bytes, std::align_val_t alignment) {
  return AllocateOrThrow(bytes, static_cast<size_t>(alignment));
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return Allocate(bytes, 16);
}
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept {
  return Allocate(bytes, 16);
}
void* operator new(size_t bytes, std::align_val_t alignment,
                   const std::nothrow_t&) noexcept {
  return Allocate(bytes, static_cast<size_t>(alignment));
}
void* operator new[](size_t bytes, std::align_val_t alignment,
                     const std::nothrow_t&) noexcept {
  return Allocate(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete[](void* data) noexcept { std::free(data); }
void operator delete(void* data, size_t) noexcept { std::free(data); }
void operator delete[](void* data, size_t) noexcept { std::free(data); }
void operator delete(void* data, std::align_val_t) noexcept { std::free(data); }
void operator delete[](void* data, std::align_val_t) noexcept {
  std::free(data);
}
void operator delete(void* data, size_t, std::align_val_t) noexcept {
  std::free(data);
}
void operator delete[](void* data, size_t, std::align_val_t) noexcept {
  std::free(data);
}

namespace qeff {
namespace {

namespace fs = std::filesystem;

constexpr char kLlama[] = "tools/demo_model/llama";
constexpr int64_t kMost = 2000;
constexpr int kThrew = 99;

// What a program does, with a model at `model`, writing to `output`. `arm`
// begins to count.
using Work = std::function<absl::Status(
    const std::string& model, const std::string& output, void (*arm)())>;

int64_t armed_first = 0;
int64_t armed_last = 0;

void Arm() {
  allocations = 0;
  first_failing = armed_first;
  last_failing = armed_last;
}

void Disarm() { last_failing = 0; }

class AllocationFaultsTest : public ::testing::Test {
 protected:
  AllocationFaultsTest() : folder_(MakeTestFolder()) {
    void* const shared =
        mmap(nullptr, sizeof(*counted_), PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    counted_ = static_cast<int64_t*>(shared);
    (void)OutOfMemoryError();  // which is made while there is memory
  }
  ~AllocationFaultsTest() override { munmap(counted_, sizeof(*counted_)); }

  // How `work` ends in a process of its own when allocations `first` to `last`
  // fail.
  int RunWith(const Work& work, int64_t first, int64_t last) const {
    const std::string output = folder_ + "/out";
    const pid_t child = fork();
    if (child == 0) {
      CountFileCalls();  // and spare the disk
      armed_first = first;
      armed_last = last;
      int code = kThrew;
      try {
        const absl::Status status = work(model_, output, &Arm);
        Disarm();
        *counted_ = allocations;
        code = ExitCodeFor(status);
        if (code != 0 && code != 5) {
          std::fprintf(stderr, "%s\n", status.ToString().c_str());
        }
      } catch (const std::bad_alloc&) {
      }
      _exit(code);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  // Names and bytes of what is in the folder for outputs.
  std::map<std::string, std::string> Outputs() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
      files[entry.path()] =
          entry.is_directory() ? "" : ReadTestFile(entry.path());
    }
    return files;
  }

  // At every `step`th allocation.
  void CheckAll(const Work& work, int64_t step = 1) const {
    ASSERT_EQ(RunWith(work, 0, 0), 0);
    const auto wanted = Outputs();
    const int64_t total = *counted_;
    // Threads do not always need the same number.
    const int64_t most = std::min(kMost, total + 10);
    int refused = 0, done = 0;
    const auto check = [&](int64_t first, int64_t last) {
      for (const auto& entry : fs::directory_iterator(folder_)) {
        fs::remove_all(entry.path());
      }
      const int code = RunWith(work, first, last);
      EXPECT_TRUE(code == 0 || code == 5)
          << "allocations " << first << " to " << last << ": " << code;
      code == 0 ? ++done : ++refused;
      // What is done but could not be reported is there, too.
      const auto found = Outputs();
      EXPECT_TRUE(found == wanted || (code != 0 && found.empty()))
          << "allocations " << first << " to " << last << ": leftovers";
    };
    for (int64_t n = 1; n <= most; n += step) {
      check(n, n);
      check(n, std::numeric_limits<int64_t>::max());
    }
    EXPECT_GT(refused, most / step / 2);
    std::printf("of %d allocations: %d failures refused, %d done\n",
                static_cast<int>(total), refused, done);
  }

  const std::string folder_;  // for outputs
  int64_t* counted_;          // allocations of the last child that returned
  std::string model_ = kLlama;
};

using Model = std::unique_ptr<QEFFAutoModelForCausalLM>;

absl::Status Load(const std::string& path, const std::string&, void (*arm)()) {
  arm();
  QEFF_ASSIGN_OR_RETURN(const auto pool, CreateThreadPool(2));
  QEFF_ASSIGN_OR_RETURN(
      const Model model,
      QEFFAutoModelForCausalLM::FromPretrained(path, pool.get()));
  return model->tokenizer().status();
}

TEST_F(AllocationFaultsTest, Load) { CheckAll(&Load); }

// What is read of JSON is a tree.
TEST_F(AllocationFaultsTest, LoadWithTokenizerJson) {
  model_ = MakeTestFolder();
  fs::copy(kLlama, model_);
  fs::remove(model_ + "/tokenizer.model");
  WriteTestFile(model_ + "/tokenizer.json",
                WriteJson(ByteLevelJson({"t h", "th e", "i n", "in g"})));
  // It takes 20 ms, most of them for tables of Unicode.
  CheckAll(&Load, /*step=*/3);
}

TEST_F(AllocationFaultsTest, Quantize) {
  CheckAll([](const std::string& path, const std::string& output,
              void (*arm)()) -> absl::Status {
    QEFF_ASSIGN_OR_RETURN(const auto pool, CreateThreadPool(2));
    QEFF_ASSIGN_OR_RETURN(
        const Model model,
        QEFFAutoModelForCausalLM::FromPretrained(path, pool.get()));
    QuantizeOptions options;
    QEFF_ASSIGN_OR_RETURN(options.scheme, ParseQuantScheme("int4_g32"));
    QuantizeTransform quantize(options);
    arm();
    return model->Transform(&quantize, output).status();
  });
}

TEST_F(AllocationFaultsTest, Save) {
  CheckAll([](const std::string& path, const std::string& output,
              void (*arm)()) -> absl::Status {
    QEFF_ASSIGN_OR_RETURN(const auto pool, CreateThreadPool(1));
    QEFF_ASSIGN_OR_RETURN(
        const Model model,
        QEFFAutoModelForCausalLM::FromPretrained(path, pool.get()));
    arm();
    return model->SavePretrained(output);
  });
}

TEST_F(AllocationFaultsTest, Generate) {
  CheckAll([](const std::string& path, const std::string&,
              void (*arm)()) -> absl::Status {
    QEFF_ASSIGN_OR_RETURN(const auto pool, CreateThreadPool(2));
    QEFF_ASSIGN_OR_RETURN(
        const Model model,
        QEFFAutoModelForCausalLM::FromPretrained(path, pool.get()));
    GenerationConfig config;
    config.max_new_tokens = 4;
    arm();
    return model->Generate("The whale", config).status();
  });
}

}  // namespace
}  // namespace qeff
