"""Checks that src/ stays in layers: a folder includes only itself and the folders before it, and a few headers and
functions that are dear to compile or easy to misuse stay where they belong.

usage: include_order_test.py SRC         one line for each breach; exit status 1 when there is any
       include_order_test.py --self-check   plants one breach of each rule and expects to find it
"""

import re
import sys
import tempfile
from pathlib import Path

LAYERS = ["base", "net", "sql", "blob", "model", "store", "engine", "batch", "delivery", "api", "client", "cli"]

# What may stand only in files whose path matches.
CONFINED = [
    (re.compile(r"#\s*include\s*<boost/beast"), "Beast", re.compile(r"net/[^/]+\.cpp")),
    (
        re.compile(r"#\s*include\s*<simdjson"),
        "simdjson",
        re.compile(r"model/([^/]+\.cpp|(strict_json|prompt)\.h)|sql/postgres\.cpp"),
    ),
    (re.compile(r'#\s*include\s*"model/(strict_json|prompt)\.h"'), "strict_json.h", re.compile(r"model/[^/]+\.cpp")),
    (re.compile(r"#\s*include\s*<sqlite3"), "SQLite's own header", re.compile(r"sql/[^/]+\.cpp")),
    (re.compile(r"#\s*include\s*<libpq"), "libpq's own header", re.compile(r"sql/postgres[^/]*\.(h|cpp)")),
    (re.compile(r"\bco_spawn\b"), "co_spawn", re.compile(r"base/async\.(h|cpp)")),
]

# g++ 12 miscompiles some coroutines that await in a condition without declaring a variable there.
CONDITION = re.compile(r"\b(?:if|while) \((.*)")
DECLARED = re.compile(r"=\s*co_await")

INCLUDE = re.compile(r'#\s*include\s*"([^"]+)"')


def may_include(path, target):
    """Whether the file at `path` may include `target`, both relative to src/."""
    folder, target_folder = path.split("/")[0], target.split("/")[0]
    if target_folder == "testing":
        return folder == "testing" or path.endswith("_test.cpp")
    if folder == "testing" or path == "main.cpp":
        return True
    return target_folder in LAYERS[: LAYERS.index(folder) + 1]


def awaits_in_condition(code):
    """Whether an if or a while awaits in its condition and declares no variable for what comes."""
    start = CONDITION.search(code)
    if not start:
        return False
    depth, condition = 1, ""
    for character in start[1]:
        depth += (character == "(") - (character == ")")
        if depth == 0:
            break
        condition += character
    return "co_await" in condition and not DECLARED.search(condition)


def breaches(src):
    for file in sorted(src.rglob("*")):
        if file.suffix not in (".h", ".cpp"):
            continue
        path = file.relative_to(src).as_posix()
        if path != "main.cpp" and path.split("/")[0] not in [*LAYERS, "testing"]:
            yield f"{path}: its folder is none of {', '.join(LAYERS)}, testing"
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            code = line.split("//")[0]
            include = INCLUDE.search(code)
            if include and "/" not in include[1]:
                yield f'{path}:{number}: "{include[1]}" is not named from src/, as in "base/error.h"'
            elif include and not may_include(path, include[1]):
                yield f'{path}:{number}: "{include[1]}" is not in a folder before it'
            if awaits_in_condition(code):
                yield f"{path}:{number}: co_await in a condition: put what it brings into a variable first"
            for pattern, name, home in CONFINED:
                if pattern.search(code) and not home.fullmatch(path):
                    yield f"{path}:{number}: {name} may stand only in files matching {home.pattern}"


GOOD = {
    "net/http.h": '#include "base/error.h"',
    "net/parser.cpp": '#include "net/http.h"\n#include <boost/beast/http.hpp>',
    "model/line_parser.cpp": '#include "model/strict_json.h"',
    "model/strict_json.h": "#include <simdjson.h>",
    "sql/sqlite.cpp": '#include <sqlite3.h>\n#include "sql/connection.h"',
    "sql/postgres_listener.cpp": "#include <libpq-fe.h>",
    "base/async.cpp": "asio::co_spawn(executor);",
    "net/http.cpp": "while (auto part = co_await next()) {}\nif (open) co_await close(a(b));",
    "base/clock.h": '// #include "cli/app.h" in a comment is no include',
    "store/store_test.cpp": '#include "testing/fixtures.h"',
    "testing/fixtures.h": '#include "store/store.h"\n#include "testing/fake_clock.h"',
    "main.cpp": '#include "cli/commands.h"',
}
BAD = {
    "base/log.h": '#include "net/http.h"',
    "batch/plan.cpp": '#include "api/routes.h"',
    "store/store.h": '#include "testing/fixtures.h"',
    "store/db_test.cpp": '#include "batch/plan.h"',
    "net/http_server.h": "#include <boost/beast/http.hpp>",
    "api/files.cpp": "#include <boost/beast/http.hpp>",
    "batch/validate.cpp": "#include <simdjson.h>",
    "batch/plan.h": '#include "model/strict_json.h"',
    "store/db.cpp": "#include <sqlite3.h>",
    "store/sessions.cpp": "#include <libpq-fe.h>",
    "engine/http_engine.cpp": "co_spawn(executor);",
    "engine/registry.cpp": "while (open && !(co_await next()).empty()) {}",
    "api/ops.cpp": '#include "handlers.h"',
    "misc/odd.h": "",
}


def self_check():
    with tempfile.TemporaryDirectory() as folder:
        for name, code in {**GOOD, **BAD}.items():
            file = Path(folder, name)
            file.parent.mkdir(exist_ok=True)
            file.write_text(code, encoding="utf-8")
        found = {line.split(":")[0] for line in breaches(Path(folder))}
    for name in sorted(found ^ set(BAD)):
        print(f"self-check: {name} {'was let through' if name in BAD else 'was wrongly reported'}")
    return 1 if found != set(BAD) else 0


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--self-check":
        return self_check()
    src = Path(sys.argv[1])
    if not any(src.glob("*/*.h")):
        sys.exit(f"{src}: there are no headers in it; name the folder src/")
    found = list(breaches(src))
    print("\n".join(found) or f"{src}: every include points to a folder before it")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
