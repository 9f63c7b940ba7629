"""Whether what is in deploy/ is well-formed, and whether it and the documents speak of what the program has.

Helm and the validator of compose files are built by scripts/tools.sh; tests that want them are skipped without.
"""

import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/penstock"
PENSTOCK = ROOT / "build/release/penstock"
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
DEPLOYED = [path for path in DEPLOY.rglob("*") if path.is_file()]
KUBERNETES = "1.30"  # and what came later has these kinds too

DRAIN_SECONDS = 30


def output(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


def tool(name):
    path = ROOT / "build/tools" / name
    if not path.exists():
        pytest.skip(f"{name} is not built: scripts/tools.sh does it")
    return path


class UniqueKeys(yaml.SafeLoader):
    """The last of two equal keys would win unnoticed."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"a key stands twice: {keys}{node.start_mark}"
        return super().construct_mapping(node, deep)


def documents(text):
    return [document for document in yaml.load_all(text, UniqueKeys) if document]


@functools.cache
def rendered(*values):
    options = [f"--values={DEPLOY / 'examples' / name}" for name in values if name.endswith(".yaml")]
    options += [f"--set={value}" for value in values if not value.endswith(".yaml")]
    return documents(output(tool("helm"), "template", "penstock", CHART, *options))


INGRESS = "ingress.enabled=true,ingress.host=batch.example.com,ingress.className=nginx,ingress.tlsSecret=tls"
INSTALLATIONS = [("values-vllm.yaml",), ("values-llm-d.yaml",), ("values-vllm.yaml", INGRESS)]


def deployments():
    return [one for values in INSTALLATIONS for one in rendered(*values) if one["kind"] == "Deployment"]


# --- formats


YAML = [path for path in DEPLOYED if path.suffix == ".yaml" and "templates" not in path.parts]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_a_yaml_file_can_be_read_and_names_no_key_twice(path):
    assert documents(path.read_text())


@pytest.mark.parametrize("names", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]], ids=" ".join)
def test_compose_files_are_valid(names):
    services = yaml.safe_load(output(tool("compose"), *names, cwd=DEPLOY))["services"]
    for name in ("server", "worker"):
        assert float(services[name]["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS
        assert services[name]["read_only"]


@pytest.mark.parametrize("values", INSTALLATIONS, ids=" ".join)
def test_the_chart_passes_helms_lint_and_is_valid_for_kubernetes(values):
    output(tool("helm"), "lint", "--strict", CHART, f"--values={DEPLOY / 'examples' / values[0]}")
    kinds = set()
    for one in rendered(*values):
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
        kinds.add(one["kind"])
    assert {"Deployment", "Service", "PodDisruptionBudget"} <= kinds
    assert ("Ingress" in kinds) == (INGRESS in values)


def test_the_example_of_engines_is_valid_for_kubernetes():
    for one in documents((DEPLOY / "examples/vllm.yaml").read_text()):
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


@pytest.mark.parametrize("setting, told", [
    ("blobs=", "s3://BUCKET"), ("secret=", "a Secret with PENSTOCK_DATABASE"), ("workers=null", "at least one group"),
    ("workers.a.engines=null", "a list of URLs")])
def test_the_chart_says_what_is_missing(setting, told):
    values = DEPLOY / "examples/values-vllm.yaml"
    done = subprocess.run([tool("helm"), "template", CHART, f"--values={values}", f"--set={setting}"],
                          capture_output=True, text=True)
    assert done.returncode != 0
    assert told in done.stderr


def test_the_systemd_unit_is_valid(tmp_path):
    """What is told of the machine's other units, which it looks at too, is not ours."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze here")
    unit = (DEPLOY / "penstock@.service").read_text().replace("/usr/local/bin/penstock", str(PENSTOCK))
    for name in ("serve", "worker"):
        (tmp_path / f"penstock@{name}.service").write_text(unit)
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / f"penstock@{name}.service"],
                              capture_output=True, text=True)
        assert (done.returncode, [line for line in done.stderr.splitlines() if "penstock@" in line]) == (0, [])


def monitoring(name):
    return DEPLOY / "monitoring" / name


def test_the_rules_fire_when_they_should():
    output(tool("promtool"), "check", "config", monitoring("prometheus.yaml"))
    output(tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", monitoring("alerts.yaml"))
    output(tool("promtool"), "test", "rules", monitoring("alerts_test.yaml"))


def test_every_rule_has_a_test():
    rules = [rule for group in yaml.safe_load(monitoring("alerts.yaml").read_text())["groups"] for rule in group["rules"]]
    tests = monitoring("alerts_test.yaml").read_text()
    assert [rule["alert"] for rule in rules if rule["alert"] not in tests] == []


def panels():
    return json.loads(monitoring("dashboard.json").read_text())["panels"]


def test_the_dashboard_asks_in_promql(tmp_path):
    """As rules, which promtool can check."""
    words = {"$__rate_interval": "5m", "$job": "a", "$model": "b"}
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    for word, meant in words.items():
        asked = [expr.replace(word, meant) for expr in asked]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(asked)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    output(tool("promtool"), "check", "rules", tmp_path / "rules.yaml")


def test_the_panels_of_the_dashboard_do_not_overlap():
    places = [(x, y) for panel in panels() for at in [panel["gridPos"]]
              for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
    assert len(places) == len(set(places)) and max(x for x, _ in places) < 24
    assert len({panel["id"] for panel in panels()}) == len(panels())


METRIC = re.compile(r"\b(?:penstock|process)_[a-z0-9_]+")


@pytest.mark.parametrize("path", [*(DEPLOY / "monitoring").iterdir(), ROOT / "docs/metrics.md"], ids=lambda path: path.name)
def test_metrics_that_are_named_are_told(path):
    """By the table in docs/metrics.md, which an end-to-end test holds to the program."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    told = {name for name, _ in rows} | {name + end for name, kind in rows if kind == "histogram" for end in ("_bucket", "_sum", "_count")}
    named = {name for name in METRIC.findall(path.read_text()) if not name.endswith("_")}  # "penstock_queue_…"
    assert named and named <= told or path.name == "prometheus.yaml", named - told


# --- what the program needs


def test_pods_are_not_root_and_write_only_into_their_own_folder():
    for one in deployments():
        pod = one["spec"]["template"]["spec"]
        container, = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/data"]


def test_pods_are_given_the_time_that_lines_under_way_have():
    for one in deployments():
        pod = one["spec"]["template"]["spec"]
        before = pod["containers"][0].get("lifecycle", {}).get("preStop", {"exec": {"command": ["sleep", "0"]}})
        assert pod["terminationGracePeriodSeconds"] > DRAIN_SECONDS + int(before["exec"]["command"][1])


def test_no_service_of_kubernetes_becomes_a_setting():
    for one in deployments():
        assert one["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_the_image_has_the_libraries_that_the_program_is_linked_with():
    if not shutil.which("dpkg"):
        pytest.skip("this is not Debian")
    needed = re.findall(r"NEEDED +(\S+)", output("objdump", "-p", PENSTOCK))
    owners = output("dpkg", "-S", *(f"*-linux-gnu/{name}" for name in needed))
    packages = {line.split(":")[0] for line in owners.splitlines()}
    last_stage = (DEPLOY / "Dockerfile").read_text().rsplit("FROM ", 1)[1]
    named = set(re.search(r"--no-install-recommends(.*?)&&", last_stage, re.DOTALL)[1].replace("\\", " ").split())
    in_every_debian = {"libc6", "libgcc-s1", "libstdc++6"}
    assert named == packages - in_every_debian | {"ca-certificates"}


# --- words


@functools.cache
def flags(*command):
    text = output(PENSTOCK, *command, "--help")
    assert f"Usage: penstock {' '.join(command)} " in text, "there is no such command"
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


@functools.cache
def variables():
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.cpp"))
    return set(re.findall(r'"((?:PENSTOCK|AWS|MAX)_[A-Z_]+)"', source))


def test_the_table_of_settings_is_the_programs():
    assert output(PENSTOCK, "settings") in (ROOT / "docs/configuration.md").read_text(), "put in what `penstock settings` prints"
    settings = re.findall(r"^\| `(\w+)` \|( `.*?`| ) \| `(\w+)` \|", output(PENSTOCK, "settings"), re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \|( `.*?`|) \| `(\w+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert rows and {(key, flag.strip(), env) for key, flag, env in rows} <= {(key, flag.strip(), env) for key, flag, env in settings}


@pytest.mark.parametrize("path", DOCUMENTS + DEPLOYED, ids=lambda path: str(path.relative_to(ROOT)))
def test_variables_that_are_named_are_read(path):
    assert set(re.findall(r"\b(?:PENSTOCK|AWS|MAX)_[A-Z_]+\b", path.read_text())) <= variables()


@functools.cache
def commands():
    """All of them, from what completes them, the longest first: "keys list" before "keys"."""
    script = output(PENSTOCK, "completion", "bash")
    return sorted(re.findall(r"^    'penstock ([\w ]+)'\) flags", script, re.MULTILINE), key=len, reverse=True)


# In a block of commands, or in a line with nothing but the command in backquotes.
COMMAND = re.compile(r"(?:^|[`$/(] ?|; |&& |sudo )penstock ([a-z][^`\n|#…]*)", re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS + DEPLOYED, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_flags_that_are_named_exist(path):
    text = path.read_text().replace("\\\n", " ")
    for words in COMMAND.findall(text):
        command = next((one for one in commands() if f"{words.strip()} ".startswith(f"{one} ")), None)
        assert command, f"there is no command in: penstock {words}"
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", words)) <= flags(*command.split()), words


def test_what_containers_run_exists():
    commands = [one["spec"]["template"]["spec"]["containers"][0]["args"] for one in deployments()]
    compose, = documents((DEPLOY / "compose.yaml").read_text())
    commands += [one["command"] for one in compose["services"].values() if one.get("image") == "penstock"]
    for name, *given in commands:
        assert set(given) <= flags(name)


@pytest.mark.parametrize("path", DOCUMENTS + [DEPLOY / "README.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(path):
    text = path.read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in filter(None, links):
        assert (path.parent / link).exists(), link
    for name in re.findall(r"\bdeploy/[\w./@-]*\w", text):
        assert (ROOT / name).exists(), name


def test_the_table_of_sizes_is_what_the_script_prints():
    table = output(sys.executable, ROOT / "bench/sizing.py")
    assert table in (ROOT / "docs/scale.md").read_text()


def test_sizes_are_reckoned_with_what_the_program_does():
    for path, words in [("store/db.cpp", "kPostgresThreads = 4;"), ("batch/fleet.h", "kBeat{1'000}, kLease{5'000}"),
                        ("cli/app.cpp", "kCommitAfterShared{50}"), ("batch/dispatcher.cpp", "kClaimLines = 2048;"),
                        ("batch/dispatcher.cpp", "kHeldMargin{2'000}"),
                        ("batch/lifecycle.h", "kResultsKept = std::chrono::hours(1)")]:
        assert words in (ROOT / "src" / path).read_text(), "bench/sizing.py and docs/scale.md say otherwise"
