#!/usr/bin/env python3
"""Makes the virtual environment that the worker runs in: `venv` beside this file, with what requirements.txt pins.

    python3 suts/neutron/prepare.py

Does nothing where that is there already, so it may stand before every run.
"""
import importlib.metadata
import pathlib
import shutil
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
VENV, REQUIREMENTS = HERE / "venv", HERE / "requirements.txt"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 10)  # what Neutron 29 asks for


def main():
    if sys.version_info < OLDEST:
        sys.exit("Neutron 29 needs Python 3.10 or later; start this file with one, for example `python3.11 prepare.py`")
    if is_ready():
        return
    make()
    install()
    if not is_ready():
        sys.exit(f"pip installed something else than {REQUIREMENTS.name} pins; delete {VENV} and start this again")


def is_ready():
    """Is everything there in the version that is pinned? Looks at files only: a process would take a second."""
    folders = map(str, VENV.glob("lib/python3*/site-packages"))
    there = {name_of(found.name): found.version for found in importlib.metadata.distributions(path=list(folders))}
    return PYTHON.exists() and all(there.get(name_of(name)) == version for name, version in pins())


def name_of(name):
    """As package indexes compare names."""
    return name.lower().replace("_", "-").replace(".", "-")


def pins():
    lines = REQUIREMENTS.read_text().splitlines()
    return [line.split("==") for line in lines if "==" in line and not line.startswith("#")]


def make():
    shutil.rmtree(VENV, ignore_errors=True)  # an installation that was cut short
    try:
        venv.create(VENV, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"cannot make {VENV}: {error}\nOn Debian and Ubuntu: apt-get install python3-venv")


def install():
    print("installing Neutron, some 350 MB; this takes a minute", file=sys.stderr)
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]
    if subprocess.run(command).returncode:
        sys.exit("pip failed, see above. It needs the package index (or a mirror, PIP_INDEX_URL) and some 350 MB.")


if __name__ == "__main__":
    main()
