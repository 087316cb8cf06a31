"""What a DVC repository pins of a data folder. The only importer of dvc; it opens no network but where it says so."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from ndpnet.files import some_names
from ndpnet.redaction import redact

logger = logging.getLogger(__name__)

MAX_REASON = 400  # characters
NUM_TRANSFERS = 16

Files = dict[str, str]  # posix path relative to the data folder -> md5


class PinnedFolder:
    """A data folder inside a DVC repository, pinned by the .dvc file beside it, or not yet."""

    def __init__(self, data_dir: Path, repo: Any) -> None:
        self.data_dir, self._repo = Path(data_dir), repo
        self.dvc_path = self.data_dir.with_name(f"{self.data_dir.name}.dvc")

    @classmethod
    @contextmanager
    def open(cls, data_dir: Path) -> Iterator["PinnedFolder | None"]:
        """Open it for reading, without DVC's locks: `dvc repro` holds them while it runs a step. None: no repository.

        OSError where DVC cannot write its hash cache.
        """
        data_dir = Path(os.path.abspath(data_dir))  # noqa: PTH100 - without following links
        if not any((folder / ".dvc").is_dir() for folder in data_dir.parents):
            yield None
            return
        from dvc.repo import Repo

        for name in ("dvc", "aiobotocore.credentials"):
            logging.getLogger(name).setLevel(logging.WARNING)  # no advice, and not where credentials are from
        has_git = any((folder / ".git").exists() for folder in data_dir.parents)
        with _one_line("open the DVC repository"):
            # copied to a machine without its .git it still says what is pinned
            repo = Repo(str(data_dir.parent), config=None if has_git else {"core": {"no_scm": True}})
        try:
            yield cls(data_dir, repo)
        finally:
            repo.close()

    def pinned_hash(self) -> str | None:
        """The hash that the .dvc file beside the folder has, None without one. ValueError if it pins something else."""
        return self._output().hash_info.value if self.dvc_path.is_file() else None

    def pinned_files(self) -> Files | None:
        """The pinned files; None if their list is neither in DVC's cache nor that of what lies here."""
        from dvc_data.hashfile.tree import Tree

        out = self._output()
        try:
            return _files_of(Tree.load(out.cache, out.hash_info))
        except Exception:  # not there, or damaged: DVC and its object store raise their own types
            here = self._tree("")
            return _files_of(here) if here and here.hash_info.value == out.hash_info.value else None

    def listing(self, category: str = "") -> Files:
        """Hash what lies in the folder, or in one category of it, by DVC's cache of hashes and its .dvcignore."""
        prefix = f"{category}/" if category else ""
        return {prefix + path: md5 for path, md5 in _files_of(self._tree(category) or ()).items()}

    def _tree(self, category: str) -> Any:
        """As DVC would pin it; None: no file."""
        from dvc.fs import localfs
        from dvc_data.hashfile.build import build

        # DVC names files by the real path of its root: its cache of hashes knows them by no other
        root = Path(self._repo.root_dir)
        folder = root / self.data_dir.parent.resolve().relative_to(root) / self.data_dir.name / category
        if not folder.is_dir() or not any(folder.iterdir()):
            return None
        with _one_line(f"hash {folder}"):
            cache, ignore = self._repo.cache.local, self._repo.dvcignore
            _, _, tree = build(cache, str(folder), localfs, "md5", dry_run=True, ignore=ignore)
        return tree

    def add(self) -> Files:
        """Pin what lies here, as `dvc add` does, and keep it in DVC's cache. ValueError: some of it is not there."""
        from dvc.rwlock import RWLockFileCorruptedError

        with _one_line(f"pin {self.data_dir.name}/"):
            try:
                self._repo.add([str(self.data_dir)])
            except RWLockFileCorruptedError:  # a DVC that was killed while it wrote this left it so, for ever
                (Path(self._repo.tmp_dir) / "rwlock").unlink()
                self._repo.add([str(self.data_dir)])
            cache, pinned = self._repo.cache.local, self.listing()
            missing = [path for path, md5 in pinned.items() if not cache.exists(md5)]
            if missing:  # DVC only logs that: what is pinned could never be pushed
                raise ValueError(
                    f"DVC's cache {cache.path} could not take {some_names(missing)} (free some space, then run the "
                    "same command again)"
                )
            return pinned

    def _output(self) -> Any:
        with _one_line(f"read {self.dvc_path.name}"):
            return _output_of(self._repo, str(self.dvc_path), self.dvc_path.name)


class PinnedRevision:
    """What a commit of a git repository pins: its full hash, the hash of the folder and the md5 of each file."""

    def __init__(self, commit: str, out: Any, store: Any) -> None:
        from dvc_data.hashfile.tree import Tree

        self.commit, self.hash = commit, out.hash_info.value
        self._store, self._hash_name = store, out.hash_name
        tree = Tree.load(store, out.hash_info)
        tree.digest()
        if tree.hash_info.value != self.hash:
            raise ValueError("the remote's list of the files is damaged: not the pinned hash (push it again)")
        self.files = _files_of(tree)

    @classmethod
    @contextmanager
    def open(
        cls, url: str, revision: str | None, path: str, *, endpoint_url: str | None = None
    ) -> Iterator["PinnedRevision"]:
        """Read `path`.dvc of a branch, tag or commit, and the list of its files from the DVC remote.

        Credentials come from the environment; those in the URL are never repeated.
        """
        from dvc.repo import Repo
        from dvc.repo.open_repo import clean_repos

        # a local repository would else be read as it lies there, with what is not committed
        revision = revision or ("HEAD" if Path(url).exists() else None)
        try:
            with (
                _one_line(f"fetch {path} at {revision or 'HEAD'} of {redact(url, url)}", url),
                Repo.open(url, rev=revision, remote_config=endpoint_url and {"endpointurl": endpoint_url}) as repo,
            ):
                commit = repo.get_rev()
                dvc_path = repo.fs.join(repo.root_dir, *PurePosixPath(f"{path}.dvc").parts)
                if not repo.fs.exists(dvc_path):
                    raise ValueError(f"commit {commit} has no {path}.dvc (check the path and the revision)")
                out = _output_of(repo, dvc_path, f"{path}.dvc of commit {commit}")
                yield cls(commit, out, repo.cloud.get_remote_odb(command="pull", hash_name=out.hash_name))
        finally:
            clean_repos()  # the clone's configuration holds the URL

    def bring(self, folder: Path, paths: Iterable[str]) -> None:
        """Copy the named files from the remote into `folder` and verify each; those that are there already are kept."""
        from fsspec.callbacks import TqdmCallback

        absent = {path: self.files[path] for path in paths if not self._has(folder, path)}
        for parent in {(folder / path).parent for path in absent}:
            parent.mkdir(parents=True, exist_ok=True)
        progress = TqdmCallback(tqdm_kwargs={"desc": "fetching", "unit": "file", "disable": None})
        sources, targets = [self._store.oid_to_path(md5) for md5 in absent.values()], [folder / path for path in absent]
        if absent:
            self._store.fs.get(sources, [str(path) for path in targets], callback=progress, batch_size=NUM_TRANSFERS)
        for path in absent:
            if not self._has(folder, path):
                (folder / path).unlink(missing_ok=True)
                raise ValueError(f"{path} came with another content than the pinned one (push it to the remote again)")

    def _has(self, folder: Path, path: str) -> bool:
        from dvc.fs import localfs
        from dvc_data.hashfile.hash import hash_file

        target = folder / path
        return target.is_file() and hash_file(str(target), localfs, self._hash_name)[1].value == self.files[path]


def pull(folder: Path, repository: Path, name: str) -> None:
    """Bring what a .dvc file in a worktree pins, by the settings of the repository that the tree is of.

    ValueError: the remote does not have it, or cannot be reached.
    """
    from dvc.repo import Repo

    # the commit's own are without .dvc/config.local, and a remote by a relative path would be another folder there
    with _one_line(f"pull {name}"), Repo(str(repository)) as own:
        settings = {part: own.config[part] for part in ("core", "remote")}
        with Repo(str(folder), config=settings) as repo:
            repo.pull([str(folder / name)])


def is_lock(path: Path) -> bool:
    """Whether a file is a dvc.lock that DVC can read: one that it was killed in writing is cut off."""
    import yaml
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, Invalid):
        return False
    return True


def _output_of(repo: Any, dvc_path: str, name: str) -> Any:
    outs, folder = repo.stage.load_one(dvc_path).outs, PurePosixPath(dvc_path).stem
    # none: DVC was killed while it wrote the file
    if len(outs) != 1 or not (outs[0].hash_info and outs[0].hash_info.isdir):
        raise ValueError(f"{name} pins no {folder}/ (run `dvc add {folder}` again)")
    return outs[0]


def _files_of(tree: Any) -> Files:
    files = {"/".join(key): hash_info.value for key, _, hash_info in tree}
    for path in files:
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"the pinned list of files names {path!r}, a path outside the folder (pin the data again)")
    return files


@contextmanager
def _one_line(doing: str, url: str = "") -> Iterator[None]:
    """Turn what DVC, git and the object stores raise into one ValueError without credentials."""
    try:
        yield
    except ValueError as error:
        raise ValueError(redact(str(error), url)) from None
    except Exception as error:  # DVC, scmrepo, fsspec and botocore raise dozens of types
        logger.debug("%s failed with %s", doing, type(error).__name__)
        raise ValueError(f"cannot {doing}: {redact(_reason(error), url)[:MAX_REASON]}") from None


def _reason(error: BaseException) -> str:
    """The message and that of its deepest cause, in one line."""
    cause = error
    while deeper := cause.__cause__ or cause.__context__:
        cause = deeper
    words = [" ".join(str(failure).split()) or type(failure).__name__ for failure in (error, cause)]
    return words[0] if words[1] in words[0] else f"{words[0]}: {words[1]}"
