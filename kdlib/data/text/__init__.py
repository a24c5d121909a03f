"""Text as data: corpora of documents, near-duplicates, bytes as tensors, windows whose targets are shifted by one."""

from kdlib.data.text.corpus import NAME, Corpus, python_source, read_folder
from kdlib.data.text.duplicates import near_duplicates
from kdlib.data.text.windows import BOUNDARY, BYTES, continued, of_bytes, to_text, windows

__all__ = [
    "BOUNDARY",
    "BYTES",
    "NAME",
    "Corpus",
    "continued",
    "near_duplicates",
    "of_bytes",
    "python_source",
    "read_folder",
    "to_text",
    "windows",
]
