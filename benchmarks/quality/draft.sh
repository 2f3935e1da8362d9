#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What a distilled draft model gives its teacher in speculative decoding: the
# table of qeff/distill/README.md. The draft is one layer of 64 channels for
# tinystories6m's vocabulary of 2048 tokens. Greedy text is compared with that
# of plain decoding; a ratio is of two runs that follow one another.
#
#   benchmarks/quality/draft.sh --model=DIR --data=FILE --text=FILE --out=DIR
#       [--draft_tokens="2 3 4"] [--threads="1 2"] [--rounds=6] [--steps=3000]
#       [--qeff=PROGRAM]
#
# The draft is kept in OUT, and not made again when it is there.
set -euo pipefail

model='' data='' text='' out=''
draft_tokens="2 3 4"
threads="1 2"
rounds=6
steps=3000
qeff=qeff
for argument in "$@"; do
  case "${argument}" in
    --model=* | --data=* | --text=* | --out=* | --draft_tokens=* | \
      --threads=* | --rounds=* | --steps=* | --qeff=*)
      name="${argument%%=*}"
      printf -v "${name#--}" %s "${argument#*=}"
      ;;
    *)
      echo "draft.sh: unknown argument: ${argument}" >&2
      exit 2
      ;;
  esac
done
for name in model data text out; do
  [[ -n "${!name}" ]] || { echo "draft.sh: --${name}= is required" >&2; exit 2; }
done
mkdir -p "${out}"

if [[ ! -d "${out}/draft" ]]; then
  cat >"${out}/shape.json" <<'SHAPE'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama",
 "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 1,
 "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16,
 "vocab_size": 2048, "max_position_embeddings": 512, "rms_norm_eps": 1e-05,
 "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false,
 "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"}
SHAPE
  [[ -d "${out}/cache" ]] || "${qeff}" teacher_cache --teacher="${model}" \
    --data="${data}" --output="${out}/cache" --top_k=64 >"${out}/cache.log"
  "${qeff}" distill --teacher="${model}" --teacher_cache="${out}/cache" \
    --student="${out}/shape.json" --loss=kl:1,ce:1 --data="${data}" \
    --text="${text}" --output="${out}/draft" --steps="${steps}" \
    --learning_rate=3e-3 --warmup_steps=100 --schedule=cosine \
    --batch_size=16 --eval_every=1000 >"${out}/draft.log"
fi
grep 'held-out' "${out}/draft.log" | tail -1

prompts=("once upon a time" "the little dog" "one day , a girl named lily"
  "tom and his mom went to the park" "there was a big tree")

# generated THREADS PROMPT FLAGS...: leaves the text in OUT/text, and prints
# tokens a second, and how many proposals there were and were accepted.
generated() {
  local count="$1" prompt="$2"
  shift 2
  "${qeff}" generate --model="${model}" --prompt="${prompt}" \
    --max_new_tokens=220 --threads="${count}" --json="${out}/run.json" "$@" \
    >"${out}/text.all"
  sed -n '/"text"/p' "${out}/run.json" >"${out}/text"
  awk -F'[:,]' '/"decode_tokens_per_second"/ { speed = $2 }
    /"proposed"/ { proposed = $2 } /"accepted"/ { accepted = $2 }
    END { print speed, proposed + 0, accepted + 0 }' "${out}/run.json"
}

# quantile SHARE COLUMN: of the numbers in that column of the input.
quantile() {
  cut -d' ' -f"$2" | sort -g |
    awk -v share="$1" '{ a[NR] = $1 } END { print a[int((NR - 1) * share) + 1] }'
}

echo "| threads | draft_tokens | tokens/s, plain and with a draft | ratio (quartiles) | accepted |"
echo "|---|---|---|---|---|"
for count in ${threads}; do
  for k in ${draft_tokens}; do
    for ((round = 0; round < rounds; round++)); do
      for prompt in "${prompts[@]}"; do
        plain=$(generated "${count}" "${prompt}")
        cp "${out}/text" "${out}/plain"
        drafted=$(generated "${count}" "${prompt}" --draft="${out}/draft" \
          --draft_tokens="${k}")
        cmp "${out}/plain" "${out}/text" >&2
        awk -v line="${plain} ${drafted}" 'BEGIN {
          split(line, a, " "); print a[1], a[4], a[4] / a[1], a[5], a[6] }'
      done
    done >"${out}/runs"
    printf '| %d | %d | %.0f, %.0f | %.2f (%.2f to %.2f) | %.2f |\n' \
      "${count}" "${k}" "$(quantile .5 1 <"${out}/runs")" \
      "$(quantile .5 2 <"${out}/runs")" "$(quantile .5 3 <"${out}/runs")" \
      "$(quantile .25 3 <"${out}/runs")" "$(quantile .75 3 <"${out}/runs")" \
      "$(awk '{ p += $4; a += $5 } END { print a / p }' "${out}/runs")"
  done
done
