"""Make the corpus that comes with the library: a slice of the Python 3.11 standard library's source.

Modules are taken in the order of a hash of their dotted names until the slice is full: a choice that nobody made by
hand, the same on every machine. Near-duplicates are found in the whole library first, and counted.

    python3.11 tools/python_source.py [--write]

Without --write it makes the slice and compares it with the one that is there.
"""

import argparse
import gzip
import hashlib
import json
import shutil
import sys
import sysconfig
from pathlib import Path

from kdlib.data.text import corpus

VERSION = (3, 11)
SIZE = 3_000_000
"""Bytes of all documents together, at most."""
SKIP = ("__pycache__", "site-packages", "test", "tests", "encodings", "lib2to3", "pydoc_data", "idlelib", "turtledemo")
"""Folders left out: tests, tables that were generated, grammars, applications."""
MACHINE = "_sysconfigdata"
"""Begins the names of modules that were generated for one machine."""


def hashed(name: str) -> bytes:
    return hashlib.sha256(f"slice {name}".encode()).digest()


def make() -> tuple[corpus.Corpus, dict]:
    """The slice, and counts of what the whole library had."""
    whole = corpus.read_folder(sysconfig.get_path("stdlib"), (".py",), skip=(*SKIP, *_configurations()))
    chosen, size = {}, 0
    for name in sorted(whole.documents, key=hashed):
        bytes_ = len(whole.documents[name].encode())
        if not name.startswith(MACHINE) and size + bytes_ <= SIZE:
            chosen[name] = whole.documents[name]
            size += bytes_
    version = ".".join(map(str, sys.version_info[:3]))
    detail = f"{len(chosen)} modules of Python {version}, {size / 1e6:.1f} MB"
    left_out = {key: count for key, count in whole.left_out.items() if key != "seen"}
    left_out["beyond the slice"] = len(whole.documents) - len(chosen)
    return corpus.Corpus(corpus.NAME, dict(sorted(chosen.items())), detail, "offline", left_out), left_out


def _configurations() -> list[str]:
    return [path.name for path in Path(sysconfig.get_path("stdlib")).glob("config-*")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the slice and its licence in place")
    options = parser.parse_args()
    if sys.version_info[:2] != VERSION:
        raise SystemExit(f"the slice is of Python {'.'.join(map(str, VERSION))}, and this is {sys.version.split()[0]}")
    made, left_out = make()
    for part in ("train", "validation", "test"):
        texts = made.part(part).values()
        print(f"{part:10} {len(texts):4} modules {sum(len(text.encode()) for text in texts):9,} bytes")
    print(f"left out: {left_out}")
    print(f"fingerprint {made.fingerprint}")
    if options.write:
        content = {"detail": made.detail, "left_out": left_out, "documents": made.documents}
        packed = gzip.compress(json.dumps(content, ensure_ascii=False).encode(), 9, mtime=0)
        corpus.FILE.write_bytes(packed)
        shutil.copyfile(Path(sysconfig.get_path("stdlib"), "LICENSE.txt"), corpus.FILE.with_name("PYTHON-LICENSE.txt"))
        print(f"{corpus.FILE.name}: {len(packed):,} bytes; FINGERPRINT in kdlib/data/text/corpus.py is to be the above")
        return 0
    return int(made.fingerprint != corpus.FINGERPRINT)


if __name__ == "__main__":
    raise SystemExit(main())
