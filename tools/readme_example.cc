// SPDX-License-Identifier: Apache-2.0
//
// The example of README.md: its main is shown there, and a test compares.

#include <cstdio>

#include "qeff/base/qeff_auto_model_for_causal_lm.h"
#include "qeff/quant/quantize_transform.h"
#include "qeff/util/status.h"

int main(int, char** argv) {
  using namespace qeff;
  auto pool = CreateThreadPool(2);
  auto model = QEFFAutoModelForCausalLM::FromPretrained(argv[1], pool->get());
  if (!model.ok()) return ExitCodeFor(model.status());
  QuantizeOptions options;
  options.scheme = *ParseQuantScheme("int4_g32");
  QuantizeTransform quantize(options);
  auto report = (*model)->Transform(&quantize, argv[2]);
  if (!report.ok()) return ExitCodeFor(report.status());
  auto result = (*model)->Generate("Once upon a time", {});
  std::puts(result.ok() ? result->text.c_str() : "failed");
}
