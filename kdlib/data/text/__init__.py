"""Text as data: corpora of documents, near-duplicates, bytes as tensors, windows with shifted targets, pieces."""

from kdlib.data.text.corpus import NAME, Corpus, python_source, read_folder
from kdlib.data.text.duplicates import near_duplicates
from kdlib.data.text.pieces import pieces
from kdlib.data.text.windows import BOUNDARY, BYTES, continued, of_bytes, to_text, windows

__all__ = [
    "BOUNDARY",
    "BYTES",
    "NAME",
    "Corpus",
    "continued",
    "near_duplicates",
    "of_bytes",
    "pieces",
    "python_source",
    "read_folder",
    "to_text",
    "windows",
]
