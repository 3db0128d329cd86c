"""The ignore files of a folder and of all below it, read as git reads them: `.gitignore`, or another name."""

from __future__ import annotations

from pathlib import Path

from pathspec import GitIgnoreSpec


class IgnoreFiles:
    """All ignore files of one name below a folder; each rules what lies below its own folder, the deepest first."""

    def __init__(self, root: Path, name: str) -> None:
        self._root, self._name = root, name
        self._specs: dict[str, GitIgnoreSpec | None] = {}
        self._folders: dict[str, bool] = {"": False}

    def ignores(self, path: str) -> bool:
        """Whether the file at this path (relative, with slashes) is named by one, or lies in a folder that is."""
        return self.ignores_folder(path.rpartition("/")[0]) or self._named(path, path)

    def ignores_folder(self, path: str) -> bool:
        """The same of a folder; nothing below one that is ignored can be taken back."""
        if path not in self._folders:
            self._folders[path] = self.ignores_folder(path.rpartition("/")[0]) or self._named(path, f"{path}/")
        return self._folders[path]

    def _named(self, path: str, asked: str) -> bool:
        above = path
        while above:
            above = above.rpartition("/")[0]
            spec = self._spec(above)
            named = None if spec is None else spec.check_file(asked[len(above) + bool(above) :]).include
            if named is not None:
                return named
        return False

    def _spec(self, folder: str) -> GitIgnoreSpec | None:
        if folder not in self._specs:
            path = self._root / folder / self._name
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else None
            self._specs[folder] = None if lines is None else GitIgnoreSpec.from_lines(lines)
        return self._specs[folder]
