"""What pip is configured to do, read from its environment variables and files; pip itself is neither imported nor run.

So one setting serves both: a company's index and its certificates need not be told to mz again.
"""

from __future__ import annotations

import configparser
import os
import sys
from pathlib import Path


def pip_setting(name: str) -> str | None:
    """A setting as pip reads it: the environment first, then the files, the most specific one first."""
    if value := os.environ.get(f"PIP_{name.upper().replace('-', '_')}"):
        return value
    for path in _pip_files():
        settings = configparser.RawConfigParser(strict=False)
        try:
            settings.read(path, encoding="utf-8")
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue  # pip says what is wrong with its own files
        for section in ("install", "download", "global"):
            if value := settings.get(section, name, fallback=None):
                return value.strip()
    return None


def _pip_files() -> list[Path]:
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    home = Path.home()
    file = "pip.ini" if sys.platform == "win32" else "pip.conf"
    user = [home / ".pip" / file, Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / file]
    if sys.platform == "darwin":
        user.append(home / "Library" / "Application Support" / "pip" / file)
    if sys.platform == "win32":
        user.append(Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming") / "pip" / file)
    shared = [
        Path(folder) / "pip" / file for folder in os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
    ]
    files = [*shared, Path("/etc") / file, *user, Path(sys.prefix) / file]
    return ([Path(named)] if named else []) + files[::-1]
