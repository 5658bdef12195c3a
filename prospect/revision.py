"""Which code ran: the commit of the repository that it lies in, where it lies in one."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Revision:
    commit: str | None  # 40 hexadecimal digits; None: no repository, or no git
    is_changed: bool | None  # tracked files differ from the commit


def revision() -> Revision:
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return Revision(_git("rev-parse", "HEAD"), None if changes is None else bool(changes))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
