"""Which SDK packages the tests run against, and where they are installed. The only list of pins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Sdk:
    """One published version of the `iii-sdk` package for one runtime."""

    runtime: str
    version: str
    everyday: bool
    """Whether `make test` runs it; `make e2e-all` runs all."""

    def __str__(self) -> str:
        return f"{self.runtime}-{self.version}"

    @property
    def directory(self) -> Path:
        """Where the package is installed, apart from all others."""
        return REPOSITORY / ".cache" / "sdk" / str(self)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version, to be compared."""
        return tuple(int(part) for part in self.version.split("."))

    def command(self, program: str) -> list[str]:
        """The command that runs a program of `tests/e2e/programs` with this SDK."""
        if self.runtime == "python":
            return [str(self.directory / "bin" / "python"), str(PROGRAMS / f"{program}.py")]
        return ["node", str(PROGRAMS / f"{program}.mjs")]

    @property
    def module(self) -> str:
        """What a Node program imports: packages beside `directory` are not found by name."""
        return str(self.directory / "node_modules" / "iii-sdk")


SDKS = (
    Sdk("python", "0.11.6", everyday=True),
    Sdk("python", "0.13.0", everyday=False),
    Sdk("python", "0.19.7", everyday=False),
    Sdk("python", "0.22.1", everyday=False),
    Sdk("python", "0.23.0", everyday=True),
    Sdk("python", "0.25.0", everyday=True),
    Sdk("node", "0.11.6", everyday=False),
    Sdk("node", "0.22.1", everyday=True),
)

NEWEST_PYTHON = max((sdk for sdk in SDKS if sdk.runtime == "python"), key=lambda s: s.numbers)
NEWEST_NODE = max((sdk for sdk in SDKS if sdk.runtime == "node"), key=lambda s: s.numbers)
