// SPDX-License-Identifier: Apache-2.0

#include "qeff/fuzz/use_tokenizer.h"

#include <cstdint>
#include <string>
#include <vector>

#include "qeff/util/check.h"

namespace qeff {

void UseTokenizer(const PortableTokenizer& tokenizer, absl::string_view text) {
  for (const bool special : {false, true}) {
    const auto ids = tokenizer.Encode(text, special);
    QEFF_CHECK(ids.ok());
    for (const int32_t id : *ids) {
      QEFF_CHECK(id >= 0 && id < tokenizer.vocab_size());
    }
    const auto decoded = tokenizer.Decode(*ids, special);
    QEFF_CHECK(decoded.ok());
    StreamDecoder decoder(&tokenizer, special);
    std::string streamed;
    for (const int32_t id : *ids) streamed += *decoder.Append(id);
    QEFF_CHECK(streamed + decoder.Flush() == *decoded);
  }
}

void UseTokenizer(const PortableTokenizer& tokenizer) {
  for (const absl::string_view text :
       {"", "The  <|end|> th\xFF\xC3", "a\xCC\x81 <s>\n9",
        "Ab\xE2\x96\x81<s>zzb AAAA",
        "don't 1234\xEF\xBC\xA1\xF0\x9F\x98\x80"}) {
    UseTokenizer(tokenizer, text);
  }
  QEFF_CHECK(!tokenizer.Decode({-1}, false).ok());
  QEFF_CHECK(!tokenizer.Decode({tokenizer.vocab_size()}, false).ok());
}

}  // namespace qeff
