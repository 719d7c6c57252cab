"""What people answered, made comparable and scored as the official VQA evaluation does.

Antol et al. 2015, section 3; re-derived from the script of https://visualqa.org, version 2.0, oddities included: a
score is only the published one if they are.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

AGREED = 3
"""So many people who gave an answer make it wholly right."""

NUMBERS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten')
DIGITS = {'none': '0'} | {word: str(number) for number, word in enumerate(NUMBERS)}
ARTICLES = ('a', 'an', 'the')
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'  # no colon and no apostrophe; the period has a rule of its own

# Words that people write without an apostrophe, or with one of two. No other word is one of these without it.
WRITTEN = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _without_one(word: str) -> list[str]:
    """The word with each of its apostrophes left out in turn."""
    return [word[:at] + word[at + 1 :] for at, letter in enumerate(word) if letter == "'"]


CONTRACTIONS = {short: word for word in WRITTEN.split() for short in _without_one(word)}
CONTRACTIONS["somebody'd"] = 'somebodyd'  # the script's table has this one the wrong way round


@functools.lru_cache(maxsize=1 << 16)
def normalised(answer: str) -> str:
    """An answer in lower case, without punctuation and articles, numbers to ten as digits, apostrophes put back.

    'The Dogs!' -> 'dogs'; 'two' -> '2'; 'dont' -> "don't"; 'black-and-white' -> 'black and white'; '1,000' -> '1000'.
    """
    words = [DIGITS.get(word, word) for word in _unpunctuated(_cleaned(answer)).lower().split()]
    return ' '.join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _cleaned(answer: str) -> str:
    return answer.replace('\n', ' ').replace('\t', ' ').strip()


def _unpunctuated(answer: str) -> str:
    """Marks beside a space go, as do all of them in an answer with a number such as 1,000; others become a space.

    Of periods those go that no digit follows.
    """
    thousands, out = re.search(r'\d,\d', answer), answer
    for mark in PUNCTUATION:
        beside = f'{mark} ' in answer or f' {mark}' in answer
        out = out.replace(mark, '' if beside or thousands else ' ')
    return re.sub(r'\.(?!\d)', '', out)


def accuracy(answer: str, people: Sequence[str]) -> float:
    """The official accuracy: min(1, others who said so / 3), averaged over leaving out each of the people in turn.

    people: their answers, ten of them. Of ten, the share by how many agree is 0, 0.3, 0.6, 0.9, 1, …, 1. Where all
    said the very same, nothing is normalised on either side.
    """
    answer, people = _cleaned(answer), [_cleaned(one) for one in people]
    if len(set(people)) > 1:
        answer, people = normalised(answer), [normalised(one) for one in people]
    agree, n = people.count(answer), len(people)
    return (agree * min(1, max(agree - 1, 0) / AGREED) + (n - agree) * min(1, agree / AGREED)) / n


def frequent(answers: Iterable[str], *, at_least: int = 9) -> tuple[str, ...]:
    """The answers, normalised, that stand there at least so often, the commonest first.

    Of the commonest answers to the questions of VQA v2's train and validation, these are 3,129 (Teney et al. 2018). One
    of which nothing is left but an article is called 'a', which is scored alike.
    """
    counts = Counter(normalised(answer) for answer in answers)
    kept = sorted((-count, answer) for answer, count in counts.items() if count >= at_least)
    return tuple(answer or ARTICLES[0] for _, answer in kept)
