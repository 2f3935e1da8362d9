// SPDX-License-Identifier: Apache-2.0

#include "qeff/export/aic/compile_aic.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "qeff/export/aic/cache_entry.h"
#include "qeff/util/output_file.h"
#include "qeff/util/status.h"

namespace qeff {
namespace {

constexpr size_t kTailBytes = 4000;
constexpr char kReplayScript[] = "qaic-compile.sh";
// What a compiler says of names in specializations.json, if it wants them flat.
constexpr char kWantsFlatForm[] = "type must be string, but is object";

// The last part of a text of any length.
class Tail {
 public:
  void Append(absl::string_view text) {
    text_.append(text.data(), text.size());
    if (text_.size() > 2 * kTailBytes)
      text_.erase(0, text_.size() - kTailBytes);
  }
  std::string Get() const {
    return text_.substr(text_.size() - std::min(text_.size(), kTailBytes));
  }

 private:
  std::string text_;
};

absl::Status WriteBundle(const AicBundle& bundle, EntryBuilder* entry) {
  for (const auto& [name, content] : bundle.files) {
    QEFF_RETURN_IF_ERROR(entry->Write(name, content));
  }
  const std::string script = absl::StrCat(entry->folder(), "/", kReplayScript);
  struct stat info;
  // Whoever may read it may run it.
  if (stat(script.c_str(), &info) != 0 ||
      chmod(script.c_str(),
            (info.st_mode & 0777) | ((info.st_mode & 0444) >> 2)) != 0) {
    return OutputError(script, "make executable", errno);
  }
  return absl::OkStatus();
}

absl::Status RunCompiler(const AicBundle& bundle,
                         const AicCompileOptions& options,
                         const std::string& folder) {
  std::vector<std::string> command = {options.compiler};
  command.insert(command.end(), bundle.arguments.begin(),
                 bundle.arguments.end());
  Tail tail;
  SubprocessOptions run = options.subprocess;
  run.folder = folder;
  run.on_output = [&](absl::string_view text) {
    tail.Append(text);
    if (options.subprocess.on_output) options.subprocess.on_output(text);
  };
  QEFF_ASSIGN_OR_RETURN(const int code, RunSubprocess(command, run));
  if (code != 0) {
    const bool wants_flat = absl::StrContains(tail.Get(), kWantsFlatForm);
    return InvalidInputError(options.compiler, ": exit code ", code, " in ",
                             folder, " (its command is in ", kReplayScript, ")",
                             wants_flat ? "; it seems to be older than SDK "
                                          "1.22: set sdk_version to its own"
                                        : "",
                             "; it wrote:\n", tail.Get());
  }
  const std::string program = absl::StrCat(folder, "/", kProgramFile);
  struct stat info;
  if (stat(program.c_str(), &info) != 0 || info.st_size == 0) {
    return InvalidInputError(options.compiler, ": expected ", program,
                             ", found nothing, though its exit code is 0; it "
                             "wrote:\n",
                             tail.Get());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<AicCompileResult> CompileAic(const AicGraph& graph,
                                            const AicCompileOptions& options) {
  struct stat info;
  if (stat(graph.onnx_path.c_str(), &info) != 0) {
    return IoError(graph.onnx_path, "open the graph", errno);
  }
  QEFF_ASSIGN_OR_RETURN(const AicBundle bundle,
                        MakeAicBundle(graph, options.settings));
  AicCompileResult result = {};
  result.folder =
      absl::StrCat(ParentFolder(graph.onnx_path), "/qpc-", bundle.hash);
  if (LookAtEntry(result.folder) == EntryState::kComplete) {
    result.compiled = EntryHas(result.folder, kProgramFile);
    result.from_cache = result.compiled || !options.run_compiler;
    if (result.from_cache) {
      MarkUsed(result.folder);
      return result;
    }
  }
  QEFF_ASSIGN_OR_RETURN(const std::unique_ptr<EntryBuilder> entry,
                        EntryBuilder::Begin(result.folder));
  QEFF_RETURN_IF_ERROR(WriteBundle(bundle, entry.get()));
  if (options.run_compiler) {
    QEFF_RETURN_IF_ERROR(RunCompiler(bundle, options, result.folder));
  }
  QEFF_RETURN_IF_ERROR(entry->Commit());
  result.compiled = options.run_compiler;
  return result;
}

}  // namespace qeff
