"""`penstock completion` in the shells themselves, and `penstock man`: both tell what the parser knows."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from penstock import BINARY, CLEAN_ENV, ROOT, penstock

pytestmark = pytest.mark.local


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/penstock").symlink_to(BINARY)
    (tmp_path / "prompts.csv").write_text("text\na\n")
    return tmp_path


class Terminal:
    """An interactive shell; what is typed is completed as for a person."""

    def __init__(self, folder, *words):
        env = CLEAN_ENV | {"PATH": f"{folder}/bin:{CLEAN_ENV['PATH']}", "PS1": "> ", "TERM": "dumb", "INPUTRC": "/dev/null"}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(words[0], words, env | {"HOME": str(folder), "ZDOTDIR": str(folder)})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)
        os.waitpid(self.pid, 0)

    def type(self, text, until):
        """Types it, and reads until the pattern is there."""
        os.write(self.fd, text.encode())
        seen, deadline = "", time.monotonic() + 30
        while not re.search(until, seen):
            ready, _, _ = select.select([self.fd], [], [], deadline - time.monotonic())
            assert ready, f"{until} is not in: {seen}"
            seen += os.read(self.fd, 65536).decode(errors="replace")
        return seen

    def completed(self, text, until):
        self.type(text + "\t", until)
        self.type("\x15", "")  # removes the line


def test_bash_completes_commands_flags_values_and_files(folder):
    with Terminal(folder, "bash", "--norc", "--noprofile", "-i") as shell:
        shell.type("bind 'set enable-bracketed-paste off'; source <(penstock completion bash); echo READY$((1+1))\n", "READY2")
        shell.completed("penstock conv", "penstock convert ")
        shell.completed("penstock keys rev", "penstock keys revoke ")
        shell.completed("penstock run prompts.csv --endp", "--endpoint ")
        shell.completed("penstock run --endpoint /v1/e", "--endpoint /v1/embeddings ")
        shell.completed("penstock run --endpoint=/v1/e", "--endpoint=/v1/embeddings ")
        shell.completed("penstock deliveries list --status de", "--status de(ad|livered)|deliver")
        shell.completed("penstock completion f", "penstock completion fish ")
        shell.completed("penstock run prom", "penstock run prompts.csv ")
        shell.completed("penstock convert --join prom", "--join prompts.csv ")


@needs("zsh")
def test_zsh_completes_commands_flags_values_and_files(folder):
    (folder / ".zshrc").write_text("autoload -U compinit; compinit -D; unsetopt zle_bracketed_paste; source <(penstock completion zsh)\n")
    with Terminal(folder, "zsh", "-i") as shell:
        shell.type("echo READY$((1+1))\n", "READY2")
        shell.completed("penstock conv", r"conv.*ert ")
        shell.completed("penstock keys rev", "rev.*oke ")
        shell.completed("penstock run prompts.csv --endp", "--endp.*oint ")
        shell.completed("penstock run --endpoint /v1/e", "/v1/e.*mbeddings ")
        shell.completed("penstock run prom", "prom.*pts.csv ")


@needs("fish")
def test_fish_completes_commands_flags_values_and_files(folder):
    def candidates(line):
        script = f"source (penstock completion fish | psub); complete -C '{line}'"
        env = CLEAN_ENV | {"PATH": f"{folder}/bin:{CLEAN_ENV['PATH']}", "HOME": str(folder)}
        done = subprocess.run(["fish", "-N", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        return {line.split("\t")[0] for line in done.stdout.splitlines()}

    assert candidates("penstock conv") == {"convert"}
    assert candidates("penstock keys ") == {"create", "list", "revoke", "rotate"}
    assert candidates("penstock run --endp") == {"--endpoint"}
    assert candidates("penstock run --endpoint /v1/e") == {"/v1/embeddings"}
    assert candidates("penstock run prom") == {"prompts.csv"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_flag_of_every_command_is_completed(shell):
    script = penstock("completion", shell, folder=ROOT).stdout

    def check(*command):
        text = penstock(*command, "--help", folder=ROOT).stdout
        for flag in re.findall(r"(?<=[ ,])--([a-z][a-z-]*)", text.partition("Options:")[2]):
            assert re.search(rf"(--| -l ){flag}\b", script), f"{command} {flag}"
        below = re.search(r"^Subcommands:\n((?:  .*\n?)+)", text, re.MULTILINE)
        for name in re.findall(r"^  (\S+)", below[1] if below else "", re.MULTILINE):
            assert f"{' '.join(['penstock', *command, name])}" in script
            check(*command, name)

    check()


@needs("mandoc")
def test_manual_pages_are_well_formed_and_installed_with_the_program(tmp_path):
    install = ["cmake", "--install", ROOT / "build/release", "--prefix", tmp_path]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    pages = sorted((tmp_path / "share/man/man1").iterdir())
    assert {"penstock.1", "penstock-run.1", "penstock-convert.1"} <= {page.name for page in pages}
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", *pages], capture_output=True, text=True)
    faults = [line for line in done.stdout.splitlines() if "missing date" not in line]  # a page is as old as the program
    assert not faults, faults
    text = subprocess.run(["mandoc", "-Tascii", tmp_path / "share/man/man1/penstock-convert.1"], capture_output=True, text=True)
    plain = re.sub(".\b", "", text.stdout)
    assert "--endpoint /v1/chat/completions|/v1/completions|/v1/embeddings|/v1/responses" in re.sub(r"\s+", " ", plain)
    assert 'penstock convert prompts.csv -o batch.jsonl --model NAME --prompt "Translate to French: {text}"' in plain
    for shell, name in [("bash", "bash-completion/completions/penstock"), ("zsh", "zsh/site-functions/_penstock"),
                        ("fish", "fish/vendor_completions.d/penstock.fish")]:
        assert (tmp_path / "share" / name).read_text() == penstock("completion", shell, folder=ROOT).stdout
    assert penstock("man", "nothing", folder=tmp_path).returncode == 2
