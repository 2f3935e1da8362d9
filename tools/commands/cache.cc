// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "qeff/export/aic/cache_entry.h"
#include "qeff/util/status.h"
#include "tools/commands/cache_root.h"
#include "tools/commands/commands.h"

namespace qeff {
namespace {

// What the three have in common.
class CacheCommand : public Command {
 public:
  void DeclareFlags(FlagTable* flags) override {
    flags->Add("cache", &cache_, "DIR",
               absl::StrCat("The cache's root; ", kCacheRootHelp,
                            " if none is given."));
  }

 protected:
  absl::StatusOr<std::vector<EntryInfo>> List() const {
    QEFF_ASSIGN_OR_RETURN(const std::string root, CacheRoot(cache_));
    return ListEntries(root);
  }

  std::string cache_;
};

class CacheListCommand : public CacheCommand {
 public:
  absl::string_view name() const override { return "cache ls"; }
  absl::string_view summary() const override {
    return "Lists exports and compilations for Cloud AI.";
  }
  absl::string_view description() const override {
    return "State, size and days since the last use of each folder. Those of "
           "QEfficient, which has the same root, are foreign.";
  }
  absl::string_view examples() const override { return "cache ls\n"; }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    QEFF_ASSIGN_OR_RETURN(const std::vector<EntryInfo> entries, List());
    Json list = Json::array();
    for (const EntryInfo& entry : entries) {
      const double days =
          absl::FDivDuration(absl::Now() - entry.used, absl::Hours(24));
      const std::string state(EntryStateName(entry.state));
      std::fprintf(env.out, "%-10s %9.1f MB %6.1f days  %s\n", state.c_str(),
                   static_cast<double>(entry.bytes) / 1e6, days,
                   entry.folder.c_str());
      list.push_back(Json{{"folder", entry.folder},
                          {"state", state},
                          {"bytes", entry.bytes},
                          {"days", days}});
    }
    return Json{{"entries", std::move(list)}};
  }
};

class CacheVerifyCommand : public CacheCommand {
 public:
  absl::string_view name() const override { return "cache verify"; }
  absl::string_view summary() const override {
    return "Compares files of the cache with their checksums.";
  }
  absl::string_view description() const override {
    return "Reads every complete export and compilation. One that is damaged "
           "is named, and made again by whoever needs it next. Others are "
           "named with what they are: unfinished, or foreign if their "
           "qeff_entry.json is missing.";
  }
  absl::string_view examples() const override {
    return "cache verify --cache=/data/qeff_models\n";
  }
  absl::StatusOr<Json> Run(const CommandEnv& env, const FlagTable&) override {
    QEFF_ASSIGN_OR_RETURN(const std::vector<EntryInfo> entries, List());
    int64_t good = 0, damaged = 0;
    for (const EntryInfo& entry : entries) {
      if (entry.state != EntryState::kComplete &&
          entry.state != EntryState::kDamaged) {
        std::fprintf(env.out, "%-8s %s\n",
                     std::string(EntryStateName(entry.state)).c_str(),
                     entry.folder.c_str());
        continue;
      }
      const absl::Status status = VerifyEntry(entry.folder);
      if (!status.ok() && !absl::IsInvalidArgument(status)) return status;
      status.ok() ? ++good : ++damaged;
      const std::string line =
          status.ok() ? absl::StrCat("good     ", entry.folder)
                      : absl::StrCat("damaged  ", status.message());
      std::fprintf(env.out, "%s\n", line.c_str());
    }
    if (damaged > 0) {
      return InvalidInputError(damaged, " of ", good + damaged,
                               " entries were damaged; they will be made again "
                               "when they are needed");
    }
    return Json{{"good", good}};
  }
};

class CacheCollectCommand : public CacheCommand {
 public:
  absl::string_view name() const override { return "cache gc"; }
  absl::string_view summary() const override {
    return "Removes what nobody needs from the cache.";
  }
  absl::string_view description() const override {
    return "Removes exports and compilations that are unfinished or damaged, "
           "and with --older_than those that were not used for so long. What "
           "another process is making stays, and so does all that qeff has not "
           "made.";
  }
  absl::string_view examples() const override {
    return "cache gc --older_than=30\n";
  }
  void DeclareFlags(FlagTable* flags) override {
    CacheCommand::DeclareFlags(flags);
    flags->Add("older_than", &older_than_days_, "DAYS",
               "Removes complete ones, too, that were last used before.");
  }
  absl::StatusOr<Json> Run(const CommandEnv& env,
                           const FlagTable& flags) override {
    if (!(older_than_days_ >= 0)) {
      return UsageError("--older_than: expected 0 or more");
    }
    QEFF_ASSIGN_OR_RETURN(const std::vector<EntryInfo> entries, List());
    const absl::Time limit =
        flags.WasGiven("older_than")
            ? absl::Now() - older_than_days_ * absl::Hours(24)
            : absl::InfinitePast();
    Json removed = Json::array();
    uint64_t bytes = 0;
    std::string last = "/";  // the entry that was removed last
    for (const EntryInfo& entry : entries) {
      if (absl::StartsWith(entry.folder, last + "/")) {  // went with it
        bytes += entry.bytes;
        continue;
      }
      if (IsNeeded(entry, entries, limit)) continue;
      const absl::Status status = RemoveEntry(entry.folder);
      if (absl::IsUnavailable(status)) {
        std::fprintf(env.out, "kept     %s\n",
                     std::string(status.message()).c_str());
        continue;
      }
      QEFF_RETURN_IF_ERROR(status);
      last = entry.folder;
      bytes += entry.bytes;
      removed.push_back(entry.folder);
      std::fprintf(env.out, "removed  %s\n", entry.folder.c_str());
    }
    std::fprintf(env.out, "%.1f MB\n", static_cast<double>(bytes) / 1e6);
    return Json{{"removed", std::move(removed)}, {"bytes", bytes}};
  }

 private:
  // Whether it was used since `limit`, or a compilation of it.
  static bool IsNeeded(const EntryInfo& entry,
                       const std::vector<EntryInfo>& all, absl::Time limit) {
    if (entry.state == EntryState::kForeign ||
        entry.state == EntryState::kMissing) {
      return true;
    }
    if (entry.state != EntryState::kComplete) return false;
    return std::any_of(
        all.begin(), all.end(), [&entry, limit](const EntryInfo& other) {
          return other.state == EntryState::kComplete && other.used >= limit &&
                 (other.folder == entry.folder ||
                  absl::StartsWith(other.folder, entry.folder + "/"));
        });
  }

  double older_than_days_ = 0;
};

}  // namespace

std::vector<std::unique_ptr<Command>> MakeCacheCommands() {
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(std::make_unique<CacheListCommand>());
  commands.push_back(std::make_unique<CacheVerifyCommand>());
  commands.push_back(std::make_unique<CacheCollectCommand>());
  return commands;
}

}  // namespace qeff
