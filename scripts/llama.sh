#!/usr/bin/env bash
# Builds llama.cpp's server for this machine, build/llama/bin/llama-server, one static binary, and llama-quantize beside
# it.
# With --all-variants it builds build/llama-all-variants/bin/ instead: it runs on any x86-64 or ARM machine and picks the
# fastest code for it when it starts. That takes twice as long and is meant for packages.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage='usage: scripts/llama.sh [--all-variants]     LLAMA_CPP_SOURCE_DIR=DIR builds a llama.cpp tree of your own'
flags=(-DBUILD_SHARED_LIBS=OFF)
build=$root/build/llama
minutes=5
case $#:${1:-} in
  0:) ;;
  1:--all-variants)
    flags=(-DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON -DGGML_NATIVE=OFF)
    build=$root/build/llama-all-variants
    minutes=10
    ;;
  *:-h | *:--help) echo "$usage" && exit ;;
  *) die "$usage" ;;
esac

pinned=$(grep -o '^llama[^ ]*==[^ ]*' "$root/scripts/llama-source.txt")
unpacked=$root/build/llama.cpp
if [ -n "${LLAMA_CPP_SOURCE_DIR:-}" ]; then
  source_dir=$(realpath "$LLAMA_CPP_SOURCE_DIR")
  [ -f "$source_dir/CMakeLists.txt" ] || die "LLAMA_CPP_SOURCE_DIR=$LLAMA_CPP_SOURCE_DIR holds no llama.cpp tree (no CMakeLists.txt)"
  built_from=$source_dir
else
  source_dir=$unpacked
  built_from=$pinned
  # Without these, llama.cpp's build asks git and gets Penstock's commit.
  flags+=(-DLLAMA_BUILD_NUMBER=0 "-DLLAMA_BUILD_COMMIT=0c1e570")
fi

# A tree of the user's own may have changed, so only the pinned one is taken as built.
note=$build/built-from
if [ "$built_from" = "$pinned" ] && [ -x "$build/bin/llama-quantize" ] && [ "$(cat "$note" 2>/dev/null)" = "$pinned" ]; then
  exit 0
fi

unpack() {
  rm -rf "$unpacked" && mkdir -p "$unpacked"
  # models/ and docs/ are two thirds of the tree, and the build reads neither.
  tar xzf "$root"/build/download/llama_cpp_python-*.tar.gz -C "$unpacked" --strip-components=3 --wildcards \
    --exclude='*/vendor/llama.cpp/models' --exclude='*/vendor/llama.cpp/docs' '*/vendor/llama.cpp'
  echo "$pinned" >"$unpacked/unpacked-from"
  rm -r "$root/build/download"
}

need_build_packages
if [ "$built_from" = "$pinned" ] && [ "$(cat "$unpacked/unpacked-from" 2>/dev/null)" != "$pinned" ]; then
  rm -rf "$root/build/download"
  download "$root/scripts/llama-source.txt" "$root/build/download" --no-binary llama-cpp-python
  step unpack 'Unpacking llama.cpp' unpack
fi

# --fresh, because CMake refuses a build folder that was made for another source folder.
step llama-configure 'Configuring llama-server' cmake --fresh -S "$source_dir" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_TESTS=OFF \
  -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_TOOLS_INSTALL=OFF "${flags[@]}"
step llama-build "Building llama-server (the first time some $minutes minutes on 2 cores)" \
  cmake --build "$build" --target llama-server llama-quantize
echo "$built_from" >"$note"
