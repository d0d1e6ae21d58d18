"""A page of docs/guides: its code blocks are an app, which is deployed as a reader would deploy it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app import App, free_port

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
LAME_DUCKS = GUIDES.parents[1] / "examples" / "lame_duck"
PORT = "3001"
_BLOCK = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> dict[str, str]:
    """File name: text, of the blocks of *page* whose first line names a file (```python app.py)."""
    found: dict[str, str] = dict(_BLOCK.findall((GUIDES / page).read_text()))
    assert "deploy.toml" in found, f"{page} shows no deploy.toml"
    return found


class Guide(App):
    """The app of one page; its directory is the artifact, and the target lies in it, left out."""

    @property
    def dist(self) -> Path:
        return self.root

    def settle(self, page: str, installed: Path | None = None) -> None:
        """
        Write the files of *page*. Ours are the port, the target and, with *installed*, the packages: they are linked
        from there, because fetching them for each release would be most of the test.
        """
        files = {name: text.replace(PORT, str(self.port)) for name, text in blocks(page).items()}
        config = files.pop("deploy.toml")
        for name, text in files.items():
            (self.root / name).write_text(text)
        for duck in LAME_DUCKS.iterdir():
            if any(duck.stem in text for text in files.values()):
                shutil.copy(duck, self.root)
        config = _replaced(r"^exclude = \[", 'exclude = ["/host/", ', config)
        if installed is not None:
            config = _replaced(r"(?<=^\[install\]\n)command = .*", f'command = "ln -s {installed} .venv"', config)
        (self.root / "deploy.toml").write_text(f'{config}\n[target.local]\npath = "{self.host}"\n')
        self.release("v1")


@contextmanager
def guide(root: Path, page: str, installed: Path | None = None) -> Iterator[Guide]:
    """The app of *page*, not pushed yet; ended at the end."""
    app = Guide(root, free_port())
    app.settle(page, installed)
    try:
        yield app
    finally:
        app.close()


def _replaced(pattern: str, by: str, text: str) -> str:
    replaced, times = re.subn(pattern, by, text, flags=re.MULTILINE)
    assert times == 1, f"{pattern} stands {times} times in:\n{text}"
    return replaced
