#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What distillation recovers, beside what the same steps on the text alone do:
# the tables of qeff/distill/README.md. Every model is evaluated on the device
# engine; a loss is nats a token of the held-out text.
#
#   benchmarks/quality/distill.sh --model=DIR --data=FILE --text=FILE --out=DIR
#       [--parts="half pruned quantized sparse dense"] [--seeds="0 1 2"]
#       [--half_steps=200] [--steps=60] [--scheme=int2_g64] [--qeff=PROGRAM]
#
# Models and results are kept in OUT, and what is there is not made again.
set -euo pipefail

model='' data='' text='' out=''
parts="half pruned quantized sparse dense"
seeds="0 1 2"
half_steps=200
steps=60
scheme=int2_g64
qeff=qeff
for argument in "$@"; do
  case "${argument}" in
    --model=* | --data=* | --text=* | --out=* | --parts=* | --seeds=* | \
      --half_steps=* | --steps=* | --scheme=* | --qeff=*)
      name="${argument%%=*}"
      printf -v "${name#--}" %s "${argument#*=}"
      ;;
    *)
      echo "distill.sh: unknown argument: ${argument}" >&2
      exit 2
      ;;
  esac
done
for name in model data text out; do
  [[ -n "${!name}" ]] || { echo "distill.sh: --${name}= is required" >&2; exit 2; }
done
mkdir -p "${out}"

# made NAME COMMAND...: runs the command, which writes OUT/NAME, unless it did.
made() {
  local name="$1"
  shift
  [[ -d "${out}/${name}" ]] && return 0
  "${qeff}" "$@" --output="${out}/${name}" >"${out}/${name}.log" 2>&1 || {
    echo "distill.sh: ${name}:" >&2
    tail -5 "${out}/${name}.log" >&2
    exit 1
  }
}

# loss FOLDER NAME: of the held-out text, on the device engine.
loss() {
  local file="${out}/$2.eval"
  [[ -s "${file}" ]] || "${qeff}" eval --model="$1" --text="${text}" \
    --context_length=256 >"${file}"
  awk '$1 == "nll" { printf "%.4f", $2 }' "${file}"
}

# taught NAME LOSS SEED STEPS RATE ARGUMENTS...
taught() {
  local name="$1" terms="$2" seed="$3" count="$4" rate="$5"
  shift 5
  made "${name}" distill --teacher="${model}" --loss="${terms}" \
    --seed="${seed}" --steps="${count}" --learning_rate="${rate}" \
    --warmup_steps=$((count / 10)) --eval_every="${count}" \
    --data="${data}" "$@"
}

calibrated=(--calibration="${data}" --calibration_tokens=65536
  --sequence_length=256)
dense="$(loss "${model}" dense)"
echo "teacher: ${dense}"

# row SEED BEFORE KL CE BOTH: each with the share of the increase that is gone.
row() {
  awk -v seed="$1" -v dense="${dense}" -v before="$2" -v kl="$3" -v ce="$4" \
    -v both="$5" 'function share(x) {
      return sprintf("%.4f, %.0f %%", x, 100 * (before - x) / (before - dense))
    }
    BEGIN { printf "| %s | %.4f | %s | %s | %s |\n", seed, before, share(kl),
            share(ce), share(both) }'
}

for part in ${parts}; do
  echo
  echo "| ${part}: seed | before | kl | ce | kl and ce |"
  echo "|---|---|---|---|---|"
  for seed in ${seeds}; do
    case "${part}" in
      half | pruned)
        sizes=layers=3 count="${half_steps}"
        [[ "${part}" == half ]] || sizes=parameters=0.8 count=$((2 * steps))
        made "${part}-${seed}" prune --model="${model}" --method=structured \
          --"${sizes}" "${calibrated[@]}" --seed="${seed}"
        rate=1e-3 start=(--student="${out}/${part}-${seed}")
        ;;
      quantized)
        made "${part}-${seed}" quantize --model="${model}" \
          --scheme="${scheme}" --algorithm=best "${calibrated[@]}" \
          --seed="${seed}"
        rate=3e-4 count=$((2 * steps))
        start=(--student="${out}/${part}-${seed}" --scheme="${scheme}"
          --learn_scales)
        ;;
      sparse)
        made "${part}-${seed}" prune --model="${model}" --method=sparsegpt \
          --pattern=2:4 "${calibrated[@]}" --seed="${seed}"
        rate=3e-4 count="${steps}" start=(--student="${out}/${part}-${seed}")
        ;;
      dense)
        made "${part}-${seed}" train --model="${model}" --data="${data}" \
          --seed="${seed}" --steps="${steps}" --learning_rate=3e-4 \
          --warmup_steps=$((steps / 10))
        echo "| ${seed} | ${dense} | | $(loss "${out}/dense-${seed}" \
          "dense-${seed}") | |"
        continue
        ;;
    esac
    taught "${part}-kl-${seed}" kl:1 "${seed}" "${count}" "${rate}" "${start[@]}"
    taught "${part}-ce-${seed}" ce:1 "${seed}" "${count}" "${rate}" "${start[@]}"
    taught "${part}-both-${seed}" kl:1,ce:1 "${seed}" "${count}" "${rate}" \
      "${start[@]}"
    losses=()
    for name in "${part}" "${part}"-{kl,ce,both}; do
      losses+=("$(loss "${out}/${name}-${seed}" "${name}-${seed}")")
    done
    row "${seed}" "${losses[@]}"
  done
done
