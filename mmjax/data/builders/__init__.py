"""TFDS builders of mmjax's own, one file per data set, each with a class `Builder`.

The file's name is the data set's: `Tfds('easy_vqa', …)` prepares `builders/easy_vqa.py` on first use.
Import a builder only when it is to run: TFDS takes seconds to import.
"""
