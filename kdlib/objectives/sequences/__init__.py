"""Objectives for language models: word by word, on the student's own texts; data that a teacher wrote; stored answers.

A language model's targets are the tokens that follow (:func:`kdlib.data.text.windows`), so teacher and student must
have the same tokens. Where they have not, a teacher can still write texts to learn from: sequence-level distillation.
"""

from kdlib.objectives.sequences.on_policy import OnPolicy
from kdlib.objectives.sequences.stored import TokenAnswers, load_token_answers, store_samples, store_top_k
from kdlib.objectives.sequences.word_level import WordLevel
from kdlib.objectives.sequences.written import sequence_level

__all__ = [
    "OnPolicy",
    "TokenAnswers",
    "WordLevel",
    "load_token_answers",
    "sequence_level",
    "store_samples",
    "store_top_k",
]
