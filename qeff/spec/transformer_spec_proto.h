// SPDX-License-Identifier: Apache-2.0
//
// TransformerSpec to its message and back, for files that carry one.

#ifndef QEFF_SPEC_TRANSFORMER_SPEC_PROTO_H_
#define QEFF_SPEC_TRANSFORMER_SPEC_PROTO_H_

#include "absl/status/statusor.h"
#include "qeff/spec/transformer_spec.h"
#include "qeff/spec/transformer_spec.pb.h"

namespace qeff {

// Every field of `spec`. A field that is added to the struct does not compile
// here until it has its place in the message.
proto::TransformerSpec TransformerSpecToProto(const TransformerSpec& spec);

// The inverse, exact to the bit. Errors: kInvalidArgument naming the field when
// one is missing (a value of an enum that this version does not know counts as
// missing), or for a field that this version does not know. Whether the values
// fit together is ValidateSpec's matter.
absl::StatusOr<TransformerSpec> TransformerSpecFromProto(
    const proto::TransformerSpec& message);

}  // namespace qeff

#endif  // QEFF_SPEC_TRANSFORMER_SPEC_PROTO_H_
