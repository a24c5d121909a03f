"""Ask the encoder MiniLM about the sentences of lesson 10a, and store its answers in eight bits a number.

    python tools/encoder_answers.py

It needs the extra ``encoder`` and some two minutes on one thread.
"""

from kdcourse import sentences
from kdlib.files import write_safetensors
from kdlib.teachers.sentences import FILES, REPOSITORY, REVISION, minilm


def main() -> None:
    encoder, tables = minilm(), {}
    for name, texts in sentences.asked().items():
        tables[name] = sentences.in_eight_bits(encoder(texts))
        print(f"{name}: {len(texts):,}", flush=True)
    about = {
        "teacher": f"{REPOSITORY} at {REVISION}",
        "licence": "Apache-2.0",
        "weights": FILES["model.safetensors"],
        "texts": {name: sentences.fingerprint(texts) for name, texts in sentences.asked().items()},
    }
    write_safetensors(sentences.FILE, "kdcourse-answers", about, tables)
    sentences.FILE.chmod(0o644)


if __name__ == "__main__":
    main()
