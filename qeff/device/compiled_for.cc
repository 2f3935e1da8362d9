// SPDX-License-Identifier: Apache-2.0

#include "qeff/device/compiled_for.h"

namespace qeff {

const CompiledFor kCompiledFor = {
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512CD__) && \
    defined(__AVX512DQ__) && defined(__AVX512VL__)
    4,
#elif defined(__AVX2__)
    3,
#elif defined(__SSE4_2__)
    2,
#elif defined(__x86_64__)
    1,
#else
    0,
#endif
#if defined(__AVX512VNNI__)
    true,
#else
    false,
#endif
#if defined(__ARM_FEATURE_DOTPROD)
    true,
#else
    false,
#endif
};

}  // namespace qeff
