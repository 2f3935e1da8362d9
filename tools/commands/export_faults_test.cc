// SPDX-License-Identifier: Apache-2.0
//
// Every command that writes a model in a format of another program, on disks
// that are full, read-only or broken, and killed at any call that changes a
// file: the output is the old one or the new one, whole, and the next run works
// and leaves nothing of the one before. //tools:write_faults_test does some of
// that, under strace and at fewer calls, for all commands that write.

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "qeff/export/aic/cache_entry.h"
#include "qeff/io/io_testutil.h"
#include "qeff/util/fault_testutil.h"
#include "tools/command.h"
#include "tools/commands/commands.h"
#include "tools/commands/run_testutil.h"

namespace qeff {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr int kExitIo = 4;
constexpr int kCannotTry = 77;

enum class Source { kFloat, kQuantized, kPruned, kGguf };

struct Format {
  const char* name;
  std::vector<std::string> flags;  // of the command, but for model and output
  const char* output;              // in the folder for outputs; "": itself
  Source source = Source::kFloat;
  // Files that are there before, and are replaced.
  std::vector<std::string> old = {};
  bool in_model = false;  // the folder for outputs is the model's own
};

void PrintTo(const Format& format, std::ostream* out) { *out << format.name; }

std::vector<Format> Formats() {
  const auto of = [](const std::string& format) {
    return std::vector<std::string>{"export", "--format=" + format};
  };
  return {
      {"gguf", of("gguf"), "out", Source::kFloat, {"out"}},
      {"onnx", of("onnx"), "out", Source::kFloat, {"out", "out.data"}},
      {"onnx_in_place", of("onnx"), "out", Source::kFloat, {"out"}, true},
      {"gptq", of("gptq"), "out", Source::kQuantized},
      {"awq", of("awq"), "out", Source::kQuantized},
      {"compressed_tensors", of("compressed-tensors"), "out",
       Source::kQuantized},
      {"sparse_24", of("sparse-24-bitmask"), "out", Source::kPruned},
      {"import_gguf", {"import"}, "out", Source::kGguf},
      {"package", {"compile"}, "out", Source::kFloat, {"out"}},
      {"aic_bundle",
       {"compile", "--target=aic100", "--artifact_only"},
       "",
       Source::kFloat},
  };
}

// All files below a folder, by name.
using Tree = std::map<std::string, std::string>;

Tree TreeOf(const std::string& folder) {
  Tree tree;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder);
    tree[name] = entry.is_directory() ? "/" : ReadTestFile(entry.path());
    // A killed process leaves its lock, which no file holds any more.
    if (absl::EndsWith(name, "qeff_entry.lock")) tree.erase(name);
    // Says when files were written.
    if (absl::EndsWith(name, "qeff_entry.json")) tree[name] = "marker";
  }
  return tree;
}

// What `tree` has that `other` does not have, for messages.
std::string Differences(const Tree& tree, const Tree& other) {
  std::string names;
  for (const auto& [name, content] : tree) {
    const auto found = other.find(name);
    if (found == other.end()) absl::StrAppend(&names, " +", name);
    if (found != other.end() && found->second != content) {
      absl::StrAppend(&names, " ", name, "(", content.size(), " bytes)");
    }
  }
  for (const auto& item : other) {
    if (tree.count(item.first) == 0) absl::StrAppend(&names, " -", item.first);
  }
  return names;
}

class ExportFaults : public ::testing::TestWithParam<Format> {
 protected:
  struct Outcome {
    int status;  // of waitpid
    std::string err;

    bool Killed() const { return WIFSIGNALED(status); }
    int code() const { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
  };

  void SetUp() override {
    const std::string folder = fs::canonical(MakeTestFolder());
    model_ = folder + "/model";
    const auto run = [](const std::vector<std::string>& arguments) {
      const CommandOutcome outcome = RunQeff(arguments);
      ASSERT_EQ(outcome.code, 0) << outcome.err;
    };
    const std::string from = "--model=" + folder + "/float";
    const std::string to = "--output=" + model_;
    run({"synth", "--shape=tiny-qwen2", "--output=" + folder + "/float"});
    switch (GetParam().source) {
      case Source::kFloat:
        fs::rename(folder + "/float", model_);
        break;
      case Source::kQuantized:
        run({"quantize", from, to, "--scheme=int4_g32"});
        break;
      case Source::kPruned:
        run({"prune", from, to, "--method=magnitude", "--pattern=2:4"});
        break;
      case Source::kGguf:
        run({"export", from, to, "--format=gguf"});
        break;
    }
    folder_ = GetParam().in_model ? model_ : folder + "/outputs";
    fs::create_directories(folder_);
    output_ = folder_;
    if (GetParam().output[0] != '\0') {
      absl::StrAppend(&output_, "/", GetParam().output);
    }
    MakeOld();
    before_ = TreeOf(folder_);
    // This run is the reference, and counts what it does.
    const Outcome outcome = Run([] { CountFileCalls(); });
    ASSERT_EQ(outcome.code(), 0) << outcome.err;
    after_ = TreeOf(folder_);
    calls_ = std::stoi(outcome.err);
    ASSERT_GT(calls_, 4);
    Restore();
  }

  void MakeOld() const {
    for (const std::string& name : GetParam().old) {
      WriteTestFile(folder_ + "/" + name, "old " + name);
    }
  }

  // The folder as it was before the first run.
  void Restore() const {
    for (const auto& [name, content] : TreeOf(folder_)) {
      if (before_.count(name) == 0) fs::remove_all(folder_ + "/" + name);
    }
    MakeOld();
  }

  // Runs the command in a process of its own, after `prepare`, and then
  // `finish`, whose text is what Outcome::err ends with. On success err is the
  // number of calls.
  Outcome Run(
      const std::function<void()>& prepare,
      const std::function<std::string()>& finish = [] {
        return std::string();
      }) const {
    std::vector<std::string> arguments = GetParam().flags;
    arguments.push_back("--model=" + model_);
    arguments.push_back("--output=" + output_);
    arguments.push_back("--threads=1");  // calls in the same order
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      char* text = nullptr;
      size_t size = 0;
      FILE* const err = open_memstream(&text, &size);
      FILE* const out = fopen("/dev/null", "w");
      prepare();
      const int code = RunCommandLine(arguments, AllCommands(), out, err);
      if (code == 0) std::fprintf(err, "%d\n", FileCalls());
      CountFileCalls();
      std::fclose(err);
      const std::string all = text + finish();
      _exit(write(ends[1], all.data(), all.size()) < 0 ? 1 : code);
    }
    close(ends[1]);
    Outcome outcome;
    char buffer[4096];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) {
      outcome.err.append(buffer, static_cast<size_t>(n));
    }
    close(ends[0]);
    EXPECT_EQ(waitpid(child, &outcome.status, 0), child);
    return outcome;
  }

  // The calls to try: of many, the first and last ones and a part of those
  // between, which write tensors.
  std::vector<int> Moments() const {
    constexpr int kEnds = 12, kBetween = 8;
    const int step = std::max(1, (calls_ - 2 * kEnds) / kBetween);
    std::vector<int> moments;
    for (int n = 1; n <= calls_; ++n) {
      const bool at_an_end = n <= kEnds || n > calls_ - kEnds;
      if (at_an_end || (n - kEnds) % step == 0) moments.push_back(n);
    }
    return moments;
  }

  bool IsAic() const { return GetParam().output[0] == '\0'; }

  // Whether the folder holds the old output or the new one, and of a run that
  // has ended by itself nothing else. `n` is the call at which it was stopped.
  void ExpectWhole(int n, bool ended) const {
    if (IsAic()) return ExpectWholeEntries();
    Tree tree = TreeOf(folder_);
    if (!ended) {
      for (auto it = tree.begin(); it != tree.end();) {
        it = absl::StrContains(it->first, ".tmp.") ? tree.erase(it) : ++it;
      }
    }
    if (tree == after_) return;
    // Two files cannot be replaced at once: the graph goes first and comes
    // last, within these calls.
    constexpr int kReplacing = 8;
    if (after_.count("out.data") > 0 && tree.count("out") == 0 &&
        n > calls_ - kReplacing) {
      return;
    }
    EXPECT_EQ(Differences(tree, before_), "");
  }

  // Files of an entry have their names while it is made; it is complete when it
  // says so.
  void ExpectWholeEntries() const {
    const auto entries = ListEntries(folder_);
    ASSERT_TRUE(entries.ok()) << entries.status();
    for (const EntryInfo& entry : *entries) {
      EXPECT_NE(entry.state, EntryState::kForeign) << entry.folder;
      EXPECT_NE(entry.state, EntryState::kDamaged) << entry.folder;
      if (entry.state != EntryState::kComplete) continue;
      EXPECT_TRUE(VerifyEntry(entry.folder).ok()) << entry.folder;
    }
  }

  // Another run makes everything, and nothing is left of those before.
  void ExpectMade() const {
    if (IsAic() || TreeOf(folder_) != after_) {
      const Outcome outcome = Run([] {});
      ASSERT_EQ(outcome.code(), 0) << outcome.err;
    }
    EXPECT_EQ(Differences(TreeOf(folder_), after_), "");
    if (!IsAic()) return;
    const auto entries = ListEntries(folder_);
    ASSERT_TRUE(entries.ok()) << entries.status();
    EXPECT_EQ(entries->size(), 2u);
    for (const EntryInfo& entry : *entries) {
      EXPECT_TRUE(VerifyEntry(entry.folder).ok()) << entry.folder;
    }
  }

  std::string model_;
  std::string folder_;  // for outputs
  std::string output_;
  Tree before_, after_;
  int calls_ = 0;
};

TEST_P(ExportFaults, FullDisk) {
  for (const int n : Moments()) {
    SCOPED_TRACE(absl::StrCat("call ", n, " of ", calls_));
    const Outcome outcome = Run([n] { FailFileCallsFrom(n, ENOSPC); });
    // Behind the last write there is nothing that a full disk could stop.
    if (outcome.code() != 0) {
      EXPECT_EQ(outcome.code(), kExitIo) << outcome.err;
      EXPECT_THAT(outcome.err, AllOf(HasSubstr(folder_),
                                     HasSubstr("No space left on device")));
    }
    ExpectWhole(n, /*ended=*/true);
    Restore();
  }
}

TEST_P(ExportFaults, FailingCalls) {
  for (const int n : Moments()) {
    SCOPED_TRACE(absl::StrCat("call ", n, " of ", calls_));
    const Outcome outcome = Run([n] { FailFileCall(n, EIO); });
    if (outcome.code() != 0) {
      EXPECT_EQ(outcome.code(), kExitIo) << outcome.err;
      EXPECT_THAT(outcome.err,
                  AllOf(HasSubstr(folder_), HasSubstr("Input/output error")));
    }
    ExpectWhole(n, /*ended=*/true);
    Restore();
  }
}

TEST_P(ExportFaults, KilledAtAnyCall) {
  for (const int n : Moments()) {
    SCOPED_TRACE(absl::StrCat("call ", n, " of ", calls_));
    EXPECT_TRUE(Run([n] { KillAtFileCall(n); }).Killed());
    ExpectWhole(n, /*ended=*/false);
    ExpectMade();
    Restore();
  }
}

// One folder, and runs that each go further than the one before.
TEST_P(ExportFaults, KilledManyTimesInARow) {
  int killed = 0;
  for (int n = 1; n < 2 * calls_; n += 1 + calls_ / 8) {
    killed += Run([n] { KillAtFileCall(n); }).Killed() ? 1 : 0;
    ExpectWhole(n, /*ended=*/false);
  }
  EXPECT_GT(killed, 4);
  ExpectMade();
}

TEST_P(ExportFaults, SmallDisks) {
  if (GetParam().in_model) GTEST_SKIP() << "the model is on that disk";
  uint64_t whole = 0;
  for (const auto& item : after_) whole += item.second.size();
  for (const double part : {0.02, 0.1, 0.5, 0.9}) {
    for (const int files : {0, 1, 3}) {
      const int64_t bytes = static_cast<int64_t>(part * double(whole));
      SCOPED_TRACE(absl::StrCat(bytes, " bytes, ", files, " files"));
      const Outcome outcome = Run(
          [&] {
            if (!MountSmallDisk(folder_, bytes, files)) _exit(kCannotTry);
          },
          [&] {
            std::string left;
            for (const auto& item : TreeOf(folder_)) {
              absl::StrAppend(&left, " left:", item.first);
            }
            return left;
          });
      if (outcome.code() == kCannotTry) {
        GTEST_SKIP() << "no mounts of users' own here";
      }
      EXPECT_EQ(outcome.code(), kExitIo) << outcome.err;
      EXPECT_THAT(outcome.err,
                  AllOf(HasSubstr(folder_),
                        AnyOf(HasSubstr("No space left on device"),
                              HasSubstr("not enough space: needs "))));
      EXPECT_TRUE(IsAic() || !absl::StrContains(outcome.err, "left:"))
          << outcome.err;
    }
  }
  ExpectMade();
}

TEST_P(ExportFaults, ReadOnlyDisk) {
  if (GetParam().in_model) GTEST_SKIP() << "the model is on that disk";
  const Outcome outcome = Run([&] {
    if (!MountSmallDisk(folder_, 1 << 30) || !MakeReadOnly(folder_)) {
      _exit(kCannotTry);
    }
  });
  if (outcome.code() == kCannotTry) {
    GTEST_SKIP() << "no mounts of users' own here";
  }
  EXPECT_EQ(outcome.code(), kExitIo) << outcome.err;
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr(folder_), HasSubstr("Read-only file system")));
  ExpectMade();
}

// Folders that nobody can write to, root included.
TEST_P(ExportFaults, ImpossibleFolders) {
  WriteTestFile(folder_ + "/file", "");
  const std::string kept = output_;
  for (const char* folder : {"/proc", "/proc/self/fd", "file"}) {
    const std::string path =
        folder[0] == '/' ? folder : absl::StrCat(folder_, "/", folder);
    output_ = path + "/out";
    const Outcome outcome = Run([] {});
    EXPECT_EQ(outcome.code(), kExitIo) << outcome.err;
    EXPECT_THAT(outcome.err,
                AllOf(HasSubstr(path), AnyOf(HasSubstr("Not a directory"),
                                             HasSubstr("No such file"),
                                             HasSubstr("Permission denied"),
                                             HasSubstr("not permitted"))));
  }
  output_ = kept;
  fs::remove(folder_ + "/file");
  EXPECT_EQ(Differences(TreeOf(folder_), before_), "");
}

TEST_P(ExportFaults, LimitOfFileSizes) {
  uint64_t largest = 0;
  for (const auto& [name, content] : after_) {
    const auto old = before_.find(name);
    if (old != before_.end() && old->second == content) continue;
    largest = std::max<uint64_t>(largest, content.size());
  }
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1000}, largest - 1}) {
    const Outcome outcome = Run([bytes] {
      const rlimit limit = {bytes, bytes};
      setrlimit(RLIMIT_FSIZE, &limit);
    });
    EXPECT_EQ(outcome.code(), kExitIo) << outcome.err;
    EXPECT_THAT(outcome.err, AllOf(HasSubstr(folder_), HasSubstr("ulimit -f")));
    ExpectWhole(0, /*ended=*/true);
  }
  ExpectMade();
}

INSTANTIATE_TEST_SUITE_P(Formats, ExportFaults, ::testing::ValuesIn(Formats()),
                         [](const ::testing::TestParamInfo<Format>& info) {
                           return std::string(info.param.name);
                         });

}  // namespace
}  // namespace qeff
