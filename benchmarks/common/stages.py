"""Runs of cllm-trainer that are made once: a stage is named by a hash of everything that decides over its result.

`STORE/<command>-<key>/` holds the output of a stage, the state of its run, its log, and at the end `done.json`. What was interrupted goes on
where the trainer's state is, and the seconds of all attempts count.
"""

import functools
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

# the trainer keeps a state of these
RESUMABLE = {"adapt", "train"}
STEPS_BETWEEN_STATES = 50
# seconds between two notes of how long an attempt has taken: a driver that is killed loses so many of them
HEARTBEAT = 5.0


class Failed(Exception):
    """A stage could not be made. The message is a sentence that says why."""


@dataclass(frozen=True)
class Stage:
    """A run of cllm-trainer, by what decides over its result."""

    command: str
    # by the trainer's names, without dashes
    options: dict = field(default_factory=dict)
    # by the trainer's names: files and folders, or stages whose output is read
    inputs: dict = field(default_factory=dict)

    def key(self):
        read = {name: source.key() if isinstance(source, Stage) else digest(source) for name, source in self.inputs.items()}
        return hashlib.sha256(json.dumps([self.command, self.options, read], sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Done:
    """A stage that is complete."""

    folder: pathlib.Path
    # what done.json says: the stage, seconds, attempts, the trainer, its last words
    record: dict

    @property
    def output(self):
        return self.folder / "output"

    @property
    def seconds(self):
        return self.record["seconds"]


class Store:
    """A folder of stages."""

    def __init__(self, folder, trainer, threads=2):
        self.folder, self.trainer, self.threads = pathlib.Path(folder), pathlib.Path(trainer), threads

    def run(self, stage):
        """Makes a stage, and before it those that it reads. One that is complete is left as it is."""
        inputs = {name: self.run(source).output if isinstance(source, Stage) else source for name, source in stage.inputs.items()}
        folder = self.folder / f"{stage.command}-{stage.key()}"
        if (folder / "done.json").exists():
            return Done(folder, json.loads((folder / "done.json").read_text()))
        folder.mkdir(parents=True, exist_ok=True)
        say(f"{folder.name}: {' '.join(f'{name}={value}' for name, value in stage.options.items())}")
        self.attempt(stage, inputs, folder)
        attempts = read_attempts(folder)
        record = {
            "command": stage.command, "options": stage.options, "inputs": {name: str(source) for name, source in inputs.items()},
            "seconds": sum(attempts), "attempts": len(attempts), "trainer": self.identity,
            "said": read_json(folder / "message.json"),
        }
        say(f"{folder.name}: {record['seconds']:.0f} s")
        if stage.command == "evaluate":
            # a copy of the weights that the stage before has made
            for weights in (folder / "output").glob("*/*.safetensors"):
                weights.unlink()
        write_json(folder / "done.json", record)
        return Done(folder, record)

    def attempt(self, stage, inputs, folder):
        before, begun = read_attempts(folder), time.monotonic()
        note = lambda: write_json(folder / "attempts.json", [*before, time.monotonic() - begun])
        if stage.command == "init":
            # it takes seconds, and refuses a folder that is there
            shutil.rmtree(folder / "output", ignore_errors=True)
        (folder / "message.json").unlink(missing_ok=True)
        with open(folder / "log", "a") as log:
            process = subprocess.Popen(self.arguments(stage, inputs, folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment())
            try:
                while (code := ended_within(process, HEARTBEAT)) is None:
                    note()
            finally:
                # interrupted: the trainer keeps what it has done
                if process.poll() is None:
                    process.terminate()
                    process.wait()
                note()
        if code != 0:
            raise Failed(f"cllm-trainer {stage.command} ended with code {code}: {reason(folder)} (log: {folder / 'log'})")

    def arguments(self, stage, inputs, folder):
        options = {**inputs, **stage.options, "output": folder / "output", "threads": self.threads, "termination-message": folder / "message.json"}
        if stage.command in RESUMABLE:
            options = {"checkpoint-every-steps": STEPS_BETWEEN_STATES, **options, "state": folder / "state"}
        return [self.trainer, stage.command, *(f"--{name}={word(value)}" for name, value in options.items())]

    def environment(self):
        """A shard index of a Job that this runs in means nothing here."""
        inherited = {name: value for name, value in os.environ.items() if name != "JOB_COMPLETION_INDEX"}
        return {**inherited, "RAYON_NUM_THREADS": str(self.threads)}

    @functools.cached_property
    def identity(self):
        version = subprocess.run([self.trainer, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
        return {"version": version, "digest": digest(self.trainer)[:16]}


def ended_within(process, seconds):
    """The exit code, none while it runs."""
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None


def word(value):
    return str(value).lower() if isinstance(value, bool) else value


def reason(folder):
    """The trainer's last words, or the end of its log."""
    error = (read_json(folder / "message.json") or {}).get("error")
    lines = (folder / "log").read_text(errors="replace").strip().splitlines()
    return error or (lines or ["nothing said"])[-1]


@functools.cache
def digest(path):
    """Of a file, or of all files of a folder with their names."""
    path, hash_ = pathlib.Path(path), hashlib.sha256()
    if path.is_file():
        hash_.update(path.read_bytes())
    elif path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            hash_.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
            hash_.update(file.read_bytes())
    else:
        raise Failed(f"{path} is missing; the README beside this driver says how it is made")
    return hash_.hexdigest()


def read_attempts(folder):
    return read_json(folder / "attempts.json") or []


def read_json(path):
    """None where there is no such file."""
    return json.loads(path.read_text()) if path.exists() else None


def write_json(path, value):
    """Whole or not at all."""
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(temporary, path)


def say(progress):
    print(progress, file=sys.stderr, flush=True)


def run_driver(main):
    """Runs a driver so that whatever ends it leaves the running stage resumable and one sentence behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except Failed as failure:
        raise SystemExit(str(failure)) from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted; the same command goes on from here") from None
