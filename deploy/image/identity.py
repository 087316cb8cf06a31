"""Write what a build knows of itself into the package, where there is no git to ask later: build.json.

python identity.py OUT_PATH, beside requirements.lock, with GIT_COMMIT, GIT_DIRTY and LOCK_HASH in the environment.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path


def identity_of(environment: Mapping[str, str], lock: bytes) -> dict[str, str]:
    """Commit, whether the tree differed from it, and hash of the lock. ValueError names what is missing or wrong."""
    known = {name: environment.get(name.upper(), "") for name in ("git_commit", "git_dirty", "lock_hash")}
    if not re.fullmatch(r"[0-9a-f]{40}", known["git_commit"]) or known["git_dirty"] not in ("true", "false"):
        raise ValueError("the build does not say which commit this is (build it with `make image`)")
    if known["lock_hash"] != hashlib.sha256(lock).hexdigest():
        raise ValueError(f"LOCK_HASH {known['lock_hash'] or '(none)'} is not that of requirements.lock (`make image`)")
    return known


if __name__ == "__main__":
    try:
        found = identity_of(os.environ, Path("requirements.lock").read_bytes())
    except ValueError as error:
        sys.exit(f"Error: {error}")
    Path(sys.argv[1]).write_text(json.dumps(found, indent=2) + "\n")
