"""Builds the wheel, installs it as anybody would, and serves a new project with it.

    python -m tests.installed [--beside] [PYTHON ...]

Everything happens in an empty directory outside of the checkout, by the commands that
docs/install.md shows. Without names, the oldest and the newest Python are taken that are on the
PATH, that Greenroom allows and that Ray has a wheel for.

With ``--beside`` nothing but the wheel is installed, by the Python that executes this, and the
dependencies are those of its environment: a minute instead of several.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urljoin

import psutil

from greenroom.environment import haproxy_dir, remove_haproxy_dir
from tests.serving import START_PATIENCE_S, STOP_PATIENCE_S, free_port

ROOT = Path(__file__).parent.parent
OLDEST = (3, 11)
PROJECT = "my-agent"
QUESTION = {
    "assistant_id": "agent",
    "input": {"messages": [{"role": "user", "content": "Hello"}]},
    "stream_mode": "messages-tuple",
}
NO_RAY = "No matching distribution found for ray"
LEAVING_PATIENCE_S = 15.0


class Failed(Exception):
    """A step did not do what it should; the message says which and what it printed."""


class Environment:
    """An environment with the wheel, and the empty directory beside it.

    Args:
        folder: an empty one, for both.
        python: the interpreter that the environment is made by.
        beside: the environment needs no pip.
    """

    def __init__(self, folder: Path, python: str, *, beside: bool) -> None:
        self.place = folder / "empty"
        self.place.mkdir()
        self._venv = folder / "venv"
        self._bin = self._venv / "bin"
        ours = ("GREENROOM_", "PYTHON", "RAY_", "VIRTUAL_ENV")
        self.variables = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        self.variables["PATH"] = f"{self._bin}{os.pathsep}{os.environ['PATH']}"
        # Ours can install into it, which takes a few seconds less than a pip of its own.
        self.run(python, "-m", "venv", *(["--without-pip"] if beside else []), str(self._venv))

    def run(self, *command: str, place: Path | None = None) -> str:
        """Runs a command to its end, as somebody would who has activated the environment.

        Raises:
            Failed: it ended with another code than 0.
        """
        begun = time.monotonic()
        done = subprocess.run(
            [self.program(command[0]), *command[1:]],
            cwd=place or self.place,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        say(f"{time.monotonic() - begun:5.1f} s  {' '.join(command)}")
        if done.returncode:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def program(self, name: str) -> str:
        return str(self._bin / name) if (self._bin / name).exists() else name

    def install(self, wheel: Path) -> None:
        self.run("python", "-m", "pip", "install", "--quiet", str(wheel))

    def install_beside(self, wheel: Path) -> None:
        """Installs the wheel alone; what else it needs is imported from our own environment.

        A line of a `.pth` file is one more directory, whose own `.pth` files are not read: so the
        checkout, which is installed there by such a file, stays out of sight.
        """
        [packages] = self._venv.glob("lib/python*/site-packages")
        (packages / "beside.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        pip = [sys.executable, "-m", "pip", "--python", str(self._bin / "python")]
        self.run(*pip, "install", "--quiet", "--no-deps", str(wheel))

    def check_origin(self) -> None:
        """Raises Failed unless the modules are those of the wheel."""
        modules = ("greenroom", "actors", "serve_app")
        find = f"import importlib.util as u; print(*(u.find_spec(m).origin for m in {modules}))"
        for origin in self.run("python", "-c", find).split():
            if not Path(origin).is_relative_to(self._venv):
                raise Failed(f"{origin} is imported, which is not of the wheel.")


def say(text: str) -> None:
    print(text, flush=True)


def build(folder: Path, *, beside: bool) -> Path:
    """Builds the wheel of this checkout, by way of the source distribution unless ``beside``."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if beside:
        command = [*pip, "wheel", "--no-deps", "-w", str(folder), str(ROOT)]
    else:
        subprocess.run([sys.executable, "-m", "venv", str(folder / "builder")], check=True)
        python = str(folder / "builder" / "bin" / "python")
        subprocess.run([python, *pip[1:], "install", "build"], check=True)
        command = [python, "-m", "build", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"The wheel cannot be built:\n{done.stdout}{done.stderr}")
    [wheel] = folder.glob("*.whl")
    return wheel


def wanted_files() -> set[str]:
    """What the wheel has to have: the packages, the examples in one of them, and `serve_app.py`."""
    wanted = {"serve_app.py"}
    for source, target in {
        "greenroom": "greenroom",
        "actors": "actors",
        "examples": "greenroom/examples",
    }.items():
        for file in (ROOT / source).rglob("*"):
            parts = file.relative_to(ROOT / source).parts
            if file.is_file() and not any(p == "__pycache__" or p.startswith(".") for p in parts):
                wanted.add("/".join((target, *parts)))
    return wanted


def check_contents(wheel: Path) -> None:
    """Raises Failed unless the wheel has what it needs and no more."""
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if found != wanted_files():
        raise Failed(
            f"{wheel.name} lacks {sorted(wanted_files() - found)}"
            f" and has {sorted(found - wanted_files())} that nobody needs."
        )


@contextlib.contextmanager
def served(environment: Environment, port: int, data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """`greenroom serve` in the project, ready; killed in the end if it is still there.

    Raises:
        Failed: it did not become ready.
    """
    log = data_dir.with_suffix(".log")
    command = ["greenroom", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    begun = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [environment.program(command[0]), *command[1:]],
            cwd=environment.place / PROJECT,
            env=environment.variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        while "Ctrl-C ends it" not in log.read_text():
            if process.poll() is not None or time.monotonic() - begun > START_PATIENCE_S:
                raise Failed(f"greenroom serve did not become ready:\n{log.read_text()}")
            time.sleep(0.1)
        say(f"{time.monotonic() - begun:5.1f} s  {' '.join(command)}")
        yield process
    finally:
        if process.poll() is None:
            for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            process.wait()
            remove_haproxy_dir(data_dir)


def stream(url: str) -> None:
    """Streams a run. Raises Failed unless it was answered token by token."""
    request = urllib.request.Request(
        f"{url}/runs/stream",
        json.dumps(QUESTION).encode(),
        {"content-type": "application/json"},
    )
    tokens = list[str]()
    begun = time.monotonic()
    with urllib.request.urlopen(request, timeout=60) as answer:
        name, seen = "", ""
        for line in answer:
            seen += line.decode()
            key, _, value = line.decode().strip().partition(": ")
            name = value if key == "event" else name
            if key == "data" and name == "messages":
                tokens.append(json.loads(value)[0]["content"])
    say(f"{time.monotonic() - begun:5.1f} s  {len(tokens)} tokens: {''.join(tokens)[:40]} ...")
    if len(tokens) < 10 or not "".join(tokens).startswith("You said: 'Hello'."):
        raise Failed(f"No stream of tokens:\n{seen}")


def look(url: str) -> None:
    """Fetches the console. Raises Failed unless the page and each file that it names are there."""
    page = f"{url}/console"
    with urllib.request.urlopen(page, timeout=60) as answer:
        text = answer.read().decode()
    named = re.findall(r'(?:src|href)="([^"]+\.(?:js|css|svg))"', text)
    if len(named) < 3 or "<title>Greenroom</title>" not in text:
        raise Failed(f"{page} is no console:\n{text}")
    size = len(text)
    for each in named:
        with urllib.request.urlopen(urljoin(page, each), timeout=60) as answer:
            size += len(answer.read())
    say(f"       /console, {len(named)} files, {size // 1024} KiB")


def end(process: subprocess.Popen[str], folder: Path, data_dir: Path) -> None:
    """Ctrl-C. Raises Failed if the server does not end well, or leaves something."""
    begun = time.monotonic()
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    code = process.wait(STOP_PATIENCE_S)
    say(f"{time.monotonic() - begun:5.1f} s  Ctrl-C")
    if code:
        raise Failed(f"greenroom serve ended with {code}.")
    _, alive = psutil.wait_procs(started, LEAVING_PATIENCE_S)
    left = [str(each) for each in [*alive, *processes_of(folder)]]
    if left:
        raise Failed(f"Processes are left over: {left}")
    if haproxy_dir(data_dir).exists():
        raise Failed(f"{haproxy_dir(data_dir)} is left over.")


def processes_of(folder: Path) -> list[psutil.Process]:
    """Processes that have the folder in their command line or are in it."""
    found = list[psutil.Process]()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(folder) in text for text in (*process.cmdline(), process.cwd())):
                found.append(process)
    return found


def try_wheel(wheel: Path, python: str, *, beside: bool) -> None:
    """Installs and serves, in a directory of its own, which is removed afterwards.

    Raises:
        Failed: a step did not do what it should.
    """
    with tempfile.TemporaryDirectory(prefix="greenroom-wheel-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        environment = Environment(folder, python, beside=beside)
        say(environment.run("python", "--version").strip())
        environment.install_beside(wheel) if beside else environment.install(wheel)
        environment.check_origin()
        environment.run("greenroom", "new", PROJECT)
        environment.run("greenroom", "check", place=environment.place / PROJECT)
        environment.run("greenroom", "examples")
        environment.run("greenroom", "check", "--config", "examples")
        port, data_dir = free_port(), folder / "data"
        with served(environment, port, data_dir) as process:
            stream(f"http://127.0.0.1:{port}")
            look(f"http://127.0.0.1:{port}")
            end(process, folder, data_dir)
    say("The wheel serves, and nothing is left over.\n")


def interpreters() -> list[str]:
    """Pythons on the PATH that Greenroom allows, from the oldest to the newest."""
    found = list[str]()
    for minor in range(OLDEST[1], 30):
        path = shutil.which(f"python3.{minor}")
        # A name may be there and no Python behind it, as of pyenv.
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            found.append(path)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--beside", action="store_true", help="install nothing but the wheel")
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    options = parser.parse_args(arguments)
    named: list[str] = [sys.executable] if options.beside else options.pythons
    with tempfile.TemporaryDirectory(prefix="greenroom-build-") as folder:
        try:
            wheel = build(Path(folder), beside=options.beside)
            say(f"{wheel.name}, {wheel.stat().st_size // 1024} KiB")
            check_contents(wheel)
            oldest, *others = named or interpreters()
            try_wheel(wheel, oldest, beside=options.beside)
            for python in others if named else reversed(others):
                try:
                    try_wheel(wheel, python, beside=False)
                except Failed as error:
                    if named or NO_RAY not in str(error):
                        raise
                    say(f"There is no Ray for {python}.")
                else:
                    if not named:
                        break
        except Failed as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
