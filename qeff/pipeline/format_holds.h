// SPDX-License-Identifier: Apache-2.0
//
// Which schemes an export format holds, as far as the scheme alone says it:
// that rows are whole blocks, or scales values of float16, is seen when a model
// is exported (qeff/export).

#ifndef QEFF_PIPELINE_FORMAT_HOLDS_H_
#define QEFF_PIPELINE_FORMAT_HOLDS_H_

#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "qeff/format/quant_scheme.h"

namespace qeff {

// Why `format` of `qeff export` cannot hold layers with `schemes`, of which a
// model has one or any mix, for people to read; empty when it can, and for
// formats that hold anything, as floats if they must.
std::string WhyFormatCannotHold(absl::string_view format,
                                absl::Span<const QuantScheme> schemes);

}  // namespace qeff

#endif  // QEFF_PIPELINE_FORMAT_HOLDS_H_
