"""Begin a store with an etcd's snapshot: `python -m netlab.store.restore SNAPSHOT DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

from netlab.store import snapshot
from netlab.store.errors import StoreError
from netlab.store.salvage import remove

USAGE = """usage: python -m netlab.store.restore SNAPSHOT DIRECTORY

SNAPSHOT is what `etcdctl snapshot save` wrote, of netlab's store or of an etcd. DIRECTORY gets a database of the same
keys, revisions and leases: start `python -m netlab.programs etcd --data-dir=DIRECTORY` with it.
"""


def main(argv: list[str]) -> int:
    """Restore the snapshot that is named."""
    if len(argv) != 2 or argv[0].startswith("-") or argv[1].startswith("-"):
        sys.stderr.write(USAGE)
        return 2
    file, directory = map(Path, argv)
    path, fresh = directory / "store.db", directory / "store.db.restoring"
    if path.exists():
        sys.stderr.write(f"{path} is there already: name another directory\n")
        return 1
    try:
        remove(fresh)
        revision = snapshot.restore(file, fresh)
        fresh.rename(path)
    except (StoreError, OSError) as error:
        hint = getattr(error, "hint", "")
        sys.stderr.write(f"{error}: {hint}\n" if hint else f"{error}\n")
        return 1
    finally:
        remove(fresh)
    sys.stdout.write(f"revision {revision} is in {path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
