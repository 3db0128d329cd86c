"""The files of one storage, on any pyarrow filesystem: a write is whole or absent, a fault is one clear line.

On a local (or NFS) folder a write goes to a dot-prefixed temporary name in the same folder and is then renamed over the
target; the temporary name ends in `.tmp`, so that `trials/*.parquet` matches it in no reader. On an object store an
object appears when its upload is complete, so that one output stream is enough. A filesystem that shows
files while they are being written (HDFS) gives no such promise.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory

import pyarrow as pa
from pyarrow import fs

from orchestrator.store.credentials import refuse_credentials
from orchestrator.store.disk import link, listed, open_new, put, sync
from orchestrator.store.faults import AbsentFile, DamagedFile, StorageError, os_fault


@dataclass(frozen=True, kw_only=True)
class Files:
    """A root on a filesystem; every path below is relative to it, with `/` between its parts.

    `proven`: it is a storage of which each file carries a proof that it is whole, see `orchestrator.store.proof`.
    `guard`: called right before anything changes, which what it raises stops; see `orchestrator.store.lease`.
    """

    filesystem: fs.FileSystem
    root: str
    uri: str
    proven: bool = False
    guard: Callable[[], None] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def at(cls, uri: str | os.PathLike[str] | Files) -> Files:
        """The files under a folder (`runs/x`) or a URI (`s3://bucket/prefix`), or these files; nothing is created."""
        if isinstance(uri, Files):
            return uri
        text = os.fspath(uri)
        if not text.strip():
            raise StorageError("the storage is empty text: give a folder (runs/x) or a URI (s3://bucket/prefix)")
        if "://" not in text:
            root = os.path.abspath(os.path.expanduser(text))
            return cls(filesystem=fs.LocalFileSystem(), root=root, uri=root)
        refuse_credentials(text)
        try:
            filesystem, root = _filesystem(text)
        except (OSError, pa.ArrowException) as error:
            expected = (
                "expected a folder or a URI such as s3://bucket/prefix, gs://bucket/prefix, "
                "abfs://container@account.dfs.core.windows.net/prefix"
            )
            raise os_fault(f"cannot open the storage {text}", error, expected) from error
        root = root.rstrip("/")
        if not root:
            raise StorageError(f"the storage {text} names no bucket or folder: give one, as in s3://bucket/prefix")
        return cls(filesystem=filesystem, root=root, uri=text.rstrip("/"))

    @property
    def local(self) -> bool:
        """Whether the root is a folder of this machine's own file tree (NFS included)."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def path(self, path: str = "") -> str:
        """The path as the filesystem knows it."""
        return f"{self.root}/{path}" if path else self.root

    def uri_of(self, path: str = "") -> str:
        """The path as messages show it."""
        return f"{self.uri}/{path}" if path else self.uri

    def write(self, path: str, data: bytes, *, durable: bool = False) -> None:
        """Write the file, whole or not at all; `durable`: it also survives a power cut right after the return."""
        with self._clear("write", path):
            if self.local:
                with self._temporary(path, data, durable=durable) as temporary:
                    self._ask()
                    put(temporary, self.path(path))
                if durable:
                    sync(os.path.dirname(self.path(path)))
            else:
                self._upload(path, data)

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[str]:
        """Write a file that is too large for memory, to the local path that this yields.

        At the end of the `with` it is put in its place, whole and durable; if that raises, it is not. An upload that is
        killed leaves pieces on an object store that no reader sees; a lifecycle rule of the bucket removes them.
        """
        with self._clear("write", path), contextlib.ExitStack() as stack:
            if self.local:
                temporary = stack.enter_context(self._temporary(path, b""))
            else:
                temporary = os.path.join(stack.enter_context(TemporaryDirectory(prefix="msa-")), "file")
            yield temporary
            if self.local:
                sync(temporary)
            self._ask()
            if self.local:
                put(temporary, self.path(path))
                sync(os.path.dirname(temporary))
            else:
                fs.copy_files(temporary, self.path(path), fs.LocalFileSystem(), self.filesystem)

    def create(self, path: str, data: bytes) -> bool:
        """Write the file unless there is one (False). Exclusive on a local folder, best effort elsewhere."""
        with self._clear("write", path):
            if not self.local:
                if self.exists(path):
                    return False
                self._upload(path, data)
                return True
            try:
                with self._temporary(path, data) as temporary:
                    self._ask()
                    link(temporary, self.path(path))
            except FileExistsError:
                return False
        return True

    def read(self, path: str, *, most: int | None = None) -> bytes:
        """The content of the file, of at `most` so many bytes; `AbsentFile` where there is none."""
        with self._clear("read", path):
            self._refuse_other(path)
            with self.filesystem.open_input_stream(self.path(path), compression=None) as stream:
                data = stream.read() if most is None else stream.read(most + 1)
        if most is not None and len(data) > most:
            raise DamagedFile(f"{self.uri_of(path)} is damaged (it is larger than {most:,} bytes)")
        return data

    def read_small(self, path: str, most: int) -> bytes | None:
        """The content of a file; None for one of more than so many bytes, and for a folder, pipe or device."""
        with self._clear("read", path):
            info = self.filesystem.get_file_info(self.path(path))
            if info.type == fs.FileType.NotFound:
                raise FileNotFoundError
            if info.type != fs.FileType.File or info.size > most:
                return None
            with self.filesystem.open_input_stream(self.path(path), compression=None) as stream:
                return stream.read(most)

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[pa.NativeFile]:
        """The file for reading here and there; `AbsentFile` where there is none."""
        with self._clear("read", path):
            self._refuse_other(path)
            with self.filesystem.open_input_file(self.path(path)) as file:
                yield file

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return self._info(path).type != fs.FileType.NotFound

    def is_file(self, path: str = "") -> bool:
        """Whether a file is there."""
        return self._info(path).type == fs.FileType.File

    def modified(self, path: str) -> int | None:
        """When the file or folder was last written, in ns; None for an absent one, and where folders have no time."""
        return self._info(path).mtime_ns

    def size(self, path: str) -> int:
        """How many bytes the file has; 0 for an absent one."""
        return self._info(path).size or 0

    def modified_in(self, folder: str) -> dict[str, int | None]:
        """The same of everything in the folder, by its path below the root."""
        return {f"{folder}/{info.base_name}": info.mtime_ns for info in self._infos(folder)}

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of the files in the folder, dot-prefixed ones left out; none for an absent folder."""
        return self._list(folder, fs.FileType.File)

    def folders(self, folder: str = "") -> list[str]:
        """Sorted names of the folders in the folder, dot-prefixed ones left out; none for an absent folder."""
        return self._list(folder, fs.FileType.Directory)

    def entries(self, folder: str = "") -> dict[str, bool]:
        """What is in the folder, sorted, by name: whether it is a file, and no folder, pipe or link to nowhere.

        Dot-prefixed names are left out; an absent folder has nothing.
        """
        with self._clear("list", folder), contextlib.suppress(FileNotFoundError):
            links = [entry.name for entry in os.scandir(self.path(folder)) if entry.is_symlink()] if self.local else []
            found = dict.fromkeys(links, False)
            found |= {info.base_name: info.type == fs.FileType.File for info in self._infos(folder)}
            return {name: found[name] for name in sorted(found) if not name.startswith(".")}
        return {}

    def sizes(self, folder: str = "", *, deep: bool = False) -> dict[str, tuple[int, int | None]]:
        """Bytes of each file in the folder, dot-prefixed ones too, and when it was last written, in ns, by its path.

        `deep`: of the folders in it, too. One listing; nothing for an absent folder.
        """
        below, found = len(self.root) + 1, self._infos(folder, deep=deep)
        return {each.path[below:]: (each.size, each.mtime_ns) for each in found if each.type == fs.FileType.File}

    def delete(self, path: str) -> None:
        """Remove a file, or a folder and what is in it; what is absent is fine."""
        with self._clear("delete", path), contextlib.suppress(FileNotFoundError):
            kind = self.filesystem.get_file_info(self.path(path)).type
            self._ask()
            if kind == fs.FileType.Directory:
                self.filesystem.delete_dir(self.path(path))
            elif kind != fs.FileType.NotFound:
                self.filesystem.delete_file(self.path(path))

    def sweep(self, path: str) -> None:
        """Remove what killed writers of this file left behind; only sure while nobody writes it."""
        folder, _, name = self.path(path).rpartition("/")
        with self._clear("delete", path), contextlib.suppress(FileNotFoundError):
            for rest in [*os.scandir(folder)] if self.local else ():
                if rest.name.startswith(f".{name}.") and rest.name.endswith(".tmp"):
                    self._ask()
                    os.unlink(rest.path)

    def _list(self, folder: str, kind: fs.FileType) -> list[str]:
        names = (info.base_name for info in self._infos(folder) if info.type == kind)
        return sorted(name for name in names if not name.startswith("."))

    def _info(self, path: str) -> fs.FileInfo:
        with self._clear("read", path):
            return self.filesystem.get_file_info(self.path(path))

    def _infos(self, folder: str, *, deep: bool = False) -> list[fs.FileInfo]:
        selected = fs.FileSelector(self.path(folder), allow_not_found=True, recursive=deep)
        with self._clear("list", folder):
            return listed(self.filesystem, selected)

    def _refuse_other(self, path: str) -> None:
        """Before it is opened: nothing ever comes out of a pipe that nobody writes into, and some devices never end."""
        try:
            regular = not self.local or stat.S_ISREG(os.stat(self.path(path)).st_mode)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise DamagedFile(f"cannot read {self.uri_of(path)}: it is a link that leads to itself") from error
            raise
        if not regular:
            raise DamagedFile(f"cannot read {self.uri_of(path)}: it is a folder, a pipe or a device, not a file")

    def _ask(self) -> None:
        if self.guard is not None:
            self.guard()

    def _upload(self, path: str, data: bytes) -> None:
        target = self.path(path)
        self._ask()
        try:
            stream = self.filesystem.open_output_stream(target, compression=None)
        except FileNotFoundError:  # a filesystem with real folders; object stores have none
            self.filesystem.create_dir(target.rpartition("/")[0], recursive=True)
            stream = self.filesystem.open_output_stream(target, compression=None)
        with stream:
            stream.write(data)

    @contextlib.contextmanager
    def _temporary(self, path: str, data: bytes, *, durable: bool = False) -> Iterator[str]:
        folder, _, name = self.path(path).rpartition("/")
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex}.tmp"
        try:
            with open_new(temporary) as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            yield temporary
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    @contextlib.contextmanager
    def _clear(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except FileNotFoundError as error:
            raise AbsentFile(f"cannot {verb} {self.uri_of(path)}: it does not exist") from error
        except (OSError, pa.ArrowException) as error:
            raise os_fault(f"cannot {verb} {self.uri_of(path)}", error) from error


def _filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem and the path in it; a small S3 object goes up in one PUT where this pyarrow knows how.

    Otherwise it starts a multipart upload for each: two more requests, and a rest that a killed writer leaves there.
    """
    if uri.startswith("s3://"):
        with contextlib.suppress(pa.ArrowInvalid):  # "unexpected query parameter", before pyarrow 21
            return fs.FileSystem.from_uri(f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true")
    return fs.FileSystem.from_uri(uri)
