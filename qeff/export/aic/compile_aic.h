// SPDX-License-Identifier: Apache-2.0
//
// A compiled program for Cloud AI from an exported graph: bundle.h's files in a
// folder of the cache, and the SDK's compiler run over them.

#ifndef QEFF_EXPORT_AIC_COMPILE_AIC_H_
#define QEFF_EXPORT_AIC_COMPILE_AIC_H_

#include <string>

#include "absl/status/statusor.h"
#include "qeff/export/aic/bundle.h"
#include "qeff/util/subprocess.h"

namespace qeff {

struct AicCompileOptions {
  AicSettings settings;
  // The compiler; one without a slash is looked for in PATH. Must be absolute
  // if it has a slash.
  std::string compiler = kDefaultAicCompiler;
  bool run_compiler = true;  // false: the bundle alone
  // on_output, timeout and check are used.
  SubprocessOptions subprocess;
};

struct AicCompileResult {
  std::string folder;  // of the bundle, with qpc/ in it when compiled
  bool compiled;       // there is a program
  bool from_cache;     // nothing had to be done
};

// Makes the folder qpc-HASH beside the graph, or finds it there, complete. The
// hash is that of MakeAicBundle: of the graph, all settings and files, and the
// versions of SDK and qeff, but of no path. A folder that is unfinished or
// damaged is made again. Errors: those of MakeAicBundle and EntryBuilder;
// kNotFound for a missing graph or compiler; kInvalidArgument when the compiler
// fails, with its exit code and the last lines that it wrote, and when it
// succeeds without a program; those of RunSubprocess. After an error the folder
// is unfinished. Precondition: the graph's folder can be written.
absl::StatusOr<AicCompileResult> CompileAic(const AicGraph& graph,
                                            const AicCompileOptions& options);

}  // namespace qeff

#endif  // QEFF_EXPORT_AIC_COMPILE_AIC_H_
