"""Install the SDK packages that the end-to-end tests run, each apart from all others.

`python tests/e2e/install_sdks.py` installs what `make test` needs, `--all` every version. What is
there already is left alone. Needs nothing but Python; Node is installed by apt-get when it is
missing and we may, otherwise the script says what to do and fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from e2e.sdks import NEWEST_NODE, NEWEST_PYTHON, SDKS, Sdk

SYSTEM_PACKAGES = ("nodejs", "npm")


def main(arguments: list[str]) -> int:
    """Install; 0 when everything is there."""
    wanted = [sdk for sdk in SDKS if sdk.everyday or "--all" in arguments]
    missing = [sdk for sdk in wanted if not _stamp_of(sdk).exists()]
    if not (_has_node() or _install_node()):
        return 1
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for sdk, error in zip(missing, pool.map(_install, missing), strict=True):
            print(f"{sdk}: {error or 'installed'}", flush=True)
            if error:
                return 1
    for newest in (NEWEST_PYTHON, NEWEST_NODE):
        link = newest.directory.with_name(newest.runtime)
        link.unlink(missing_ok=True)
        link.symlink_to(newest.directory.name)
    return 0


def _has_node() -> bool:
    return shutil.which("node") is not None and shutil.which("npm") is not None


def _install_node() -> bool:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        print(
            "The tests run real Node programs, and node or npm is missing. Install Node 18 or newer"
            " (on Debian: sudo apt-get install nodejs npm), then run this again.",
            file=sys.stderr,
        )
        return False
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", *SYSTEM_PACKAGES]):
        if subprocess.run(["apt-get", "-qq", *step], env=environment, check=False).returncode:
            print(f"apt-get {step[0]} failed; see above", file=sys.stderr)
            return False
    return True


def _stamp_of(sdk: Sdk) -> Path:
    return sdk.directory / ".installed"


def _install(sdk: Sdk) -> str:
    """Install one package from nothing; what went wrong, or an empty string."""
    shutil.rmtree(sdk.directory, ignore_errors=True)
    sdk.directory.mkdir(parents=True)
    if sdk.runtime == "python":
        venv.create(sdk.directory, with_pip=True)
        pip = [str(sdk.directory / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        command = [*pip, "--disable-pip-version-check", f"iii-sdk=={sdk.version}"]
    else:
        npm = ["npm", "install", "--loglevel=error", "--no-audit", "--no-fund", "--save-exact"]
        command = [*npm, "--prefix", str(sdk.directory), f"iii-sdk@{sdk.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
    _stamp_of(sdk).touch()
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
