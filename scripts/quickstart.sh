#!/usr/bin/env bash
# From a fresh Debian 12 to answers of a real model: packages, llama-server, a small model, Penstock, one batch.
# What is there already is kept, so a second run starts at once.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage='usage: scripts/quickstart.sh [--llama-server PATH] [--gguf FILE | --format FORMAT] [--all-variants]
  --llama-server PATH  use this llama-server instead of building one
  --gguf FILE          use this model instead of the small one
  --format FORMAT      of the small one: Q8_0 (the default) answers as the original does and is read two to three times
                       as fast by CPUs, Q4_0 is smaller and a bit quicker, Q4_1 is the original
  --all-variants       build a llama-server that runs on any CPU, not just on this one (twice as long)'

llama_server=
gguf=
format=Q8_0
variants=()
while [ $# -gt 0 ]; do
  case $1 in
    --llama-server)
      llama_server=$(command -v "${2:-}") || die "--llama-server ${2:-}: no such program"
      llama_server=$(realpath "$llama_server")
      shift
      ;;
    --gguf)
      [ -f "${2:-}" ] || die "--gguf ${2:-}: no such file"
      gguf=$(realpath "$2")
      shift
      ;;
    --format)
      case ${2:-} in
        Q8_0 | Q4_0 | Q4_1) format=$2 ;;
        *) die "--format ${2:-}: it is Q8_0, Q4_0 or Q4_1" ;;
      esac
      shift
      ;;
    --all-variants) variants=(--all-variants) ;;
    -h | --help) echo "$usage" && exit ;;
    *) die "unknown argument '$1'"$'\n'"$usage" ;;
  esac
  shift
done
[ -z "$llama_server" ] || [ ${#variants[@]} -eq 0 ] || die '--llama-server and --all-variants exclude each other: one is used, the other built'

cd "$root"
need_packages python3
[ -n "$llama_server" ] || scripts/llama.sh "${variants[@]}"
# Only a llama.cpp of our own has the program that writes another format.
[ -x build/llama/bin/llama-quantize ] || format=Q4_1
if [ -z "$gguf" ]; then
  made=()
  [ "$format" = Q4_1 ] || made=(--format "$format")
  scripts/model.sh "${made[@]}"
fi
scripts/build.sh

if [ ! -e penstock.toml ]; then
  built=build/llama/bin/llama-server
  [ ${#variants[@]} -eq 0 ] || built=build/llama-all-variants/bin/llama-server
  cat >penstock.toml <<END
# Written by scripts/quickstart.sh; yours to change. Paths are relative to this file.
llama_server = "${llama_server:-$built}"

[models]
"smollm2-135m-instruct" = "${gguf:-build/models/SmolLM2-135M-Instruct.$format.gguf}"
END
fi

# A penstock.toml that was there before may name others; what was asked for on this command line wins over it.
options=()
[ -z "$llama_server" ] || options+=(--llama-server "$llama_server")
[ ${#variants[@]} -eq 0 ] || options+=(--llama-server build/llama-all-variants/bin/llama-server)
[ -z "$gguf" ] || options+=(--model "smollm2-135m-instruct=$gguf")

input=examples/quickstart.jsonl
output=build/quickstart-output.jsonl
rm -f "$output"
printf '\n$ build/release/penstock run %s -o %s\n' "$input" "$output"
build/release/penstock run "$input" -o "$output" "${options[@]}"

printf '\nSome of the answers in %s:\n' "$output"
python3 scripts/show_answers.py "$input" "$output" 6
cat <<'END'

Next: start the server and send it batches with any OpenAI client, at http://127.0.0.1:4080/v1:
  build/release/penstock serve
END
