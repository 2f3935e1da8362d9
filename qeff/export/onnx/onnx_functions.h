// SPDX-License-Identifier: Apache-2.0
//
// The functions that QEfficient's graphs call and Cloud AI's compiler knows by
// name: writing to and reading from a key-value cache of fixed size, and
// RMSNorm. In the model they have a body of standard operators, by which any
// other runtime executes them.

#ifndef QEFF_EXPORT_ONNX_ONNX_FUNCTIONS_H_
#define QEFF_EXPORT_ONNX_ONNX_FUNCTIONS_H_

#include "absl/strings/string_view.h"
#include "onnx/onnx.pb.h"

namespace qeff {

inline constexpr absl::string_view kCacheDomain = "com.qualcomm.cloud";
inline constexpr absl::string_view kNormDomain = "com.qti.aisw.onnx";

// CtxScatter(data [batch, heads, context, size], position_ids [batch, seq],
// updates [batch, heads, seq, size]): `data` with updates[b, h, s] at
// [b, h, position_ids[b, s]]; a position of -1 is the last one.
onnx::FunctionProto CtxScatterFunction();
// CtxScatterCB(data [slots, ...], batch_index [batch, 1], position_ids,
// updates): the same in slot batch_index[b].
onnx::FunctionProto CtxScatterCBFunction();

// CtxGather(data, ctx_indices [batch, 1, n]): [batch, heads, n, size], of which
// [b, h, i] is data[b, h, ctx_indices[b, 0, i]].
onnx::FunctionProto CtxGatherFunction();
// CtxGatherCB(data, batch_index [batch, 1], ctx_indices): the same of slot
// batch_index[b].
onnx::FunctionProto CtxGatherCBFunction();

// CustomRMSNorm(hidden_states, weight), attribute epsilon: over the last axis.
onnx::FunctionProto CustomRMSNormFunction();

}  // namespace qeff

#endif  // QEFF_EXPORT_ONNX_ONNX_FUNCTIONS_H_
