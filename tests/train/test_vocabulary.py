import dataclasses
import json

import pytest

from mmjax import config
from mmjax.data import Bpe, Data, Image, Mixture
from mmjax.data.bpe import LEAST
from mmjax.errors import UserError
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation, Experiment, InitFrom
from mmjax.train.stages import train_stages
from mmjax.train.vocabulary import check_loaded, learn, main
from tests.train import toy

CONFIG = """
from tests.train import toy
from mmjax.data import Bpe, Data, Image

BPE = Bpe('words.json', sha256='', size=270, length=3)

def experiment():
    data = Data(toy.Toy(rows=20), (Image('image', size=8), BPE))
    return toy.experiment(name='pretrain', data=data), toy.experiment(name='tuned', data=data)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path / 'data'))
    return tmp_path


def test_a_config_s_vocabulary_is_learned_by_a_command(home, capsys):
    (home / 'recipe_bpe.py').write_text(CONFIG)
    assert main([str(home / 'recipe_bpe.py')]) == 0
    said = capsys.readouterr().out
    name, _, rest = said.partition(": write sha256='")
    assert name == 'words.json'
    told = json.loads((home / 'data/words.json').read_text())
    assert told['data'] == {'train': 'toy'} and told['texts'] == 20
    bpe = Bpe('words.json', sha256=rest.split("'")[0], size=270, length=4)
    same, other = (bpe({'text': word})['text'] for word in ('same', 'other'))
    assert (same > 0).sum() == (other > 0).sum() == 1  # two words, learned whole
    assert bpe.size >= len(told['tokenizer']['model']['vocab']) + 2 > LEAST


def test_what_cannot_be_learned_exits_with_2(home, capsys):
    (home / 'recipe_none.py').write_text(CONFIG.replace(', BPE)', ', toy.WORDS)'))
    assert main([str(home / 'recipe_none.py')]) == 2
    assert 'the config has no Bpe' in capsys.readouterr().err
    (home / 'recipe_field.py').write_text(CONFIG)
    assert main([str(home / 'recipe_field.py'), '--field', 'image']) == 2
    assert "'image' of 'train' holds ndarray, no text" in capsys.readouterr().err


def stage(data) -> Experiment:
    return toy.experiment(data=data)


def test_a_mixture_of_one_source_has_the_vocabulary_of_the_source(home):
    bpe = Bpe('words.json', sha256='', size=270, length=3)
    plain = Data(toy.Toy(rows=20), (Image('image', size=8), bpe))
    (alone,) = learn([stage(plain)]).values()
    mixed = Mixture({'a': plain, 'b': dataclasses.replace(plain, shuffle=False)}, {'a': 1.0, 'b': 1.0})
    assert list(learn([stage(mixed)]).values()) == [alone]  # else the file would be refused as another
    several = Mixture({'a': plain, 'b': dataclasses.replace(plain, source=toy.Toy(rows=10))}, {'a': 1.0, 'b': 1.0})
    with pytest.raises(UserError, match='is there and is another vocabulary'):
        learn([stage(several)])


def test_a_missing_vocabulary_is_learned_and_only_the_one_that_is_named(home):
    def data(sha256):
        return Data(toy.Toy(rows=20), (Image('image', size=8), Bpe('words.json', sha256, size=270, length=3)))

    with pytest.raises(UserError, match=r"with sha256 \w{64}, Bpe.sha256 is '0000'"):
        learn([stage(data('0000'))], missing=True)
    assert not (home / 'data/words.json').exists()
    (digest,) = learn([stage(data(''))]).values()
    (home / 'data/words.json').unlink()
    assert learn([stage(data(digest))], missing=True) == {'words.json': digest}
    assert learn([stage(data('0000'))], missing=True) == {}  # it is there; a run says that it is another


WORDS = toy.WORDS
OTHER = dataclasses.replace(WORDS, vocabulary=('other', 'same'))


def with_words(tokenizer, **changes):
    return toy.experiment(data=Data(toy.Toy(20), (Image('image', size=8), tokenizer)), **changes)


def test_words_of_another_run_are_told_where_parameters_are_loaded():
    """As many of them, so that no shape tells."""
    old, table = config.dump(with_words(OTHER)), {'encoders_text/embed/embedding': 'encoders_text/embed/embedding'}
    with pytest.raises(UserError, match="'text' is tokenized by Words here and by another Words in runs/old"):
        check_loaded(with_words(WORDS), old, table, source='runs/old')
    check_loaded(with_words(dataclasses.replace(OTHER, length=9)), old, table, source='runs/old')
    check_loaded(with_words(WORDS), old, {'fusion/stack': 'fusion/stack'}, source='runs/old')
    renamed = with_words(dataclasses.replace(OTHER, key='question'))
    renamed_table = {'encoders_question/embed/embedding': 'encoders_text/embed/embedding'}
    check_loaded(renamed, old, renamed_table, source='runs/old')


def test_words_of_an_earlier_stage_are_told_before_it_trains(tmp_path):
    stages = (with_words(OTHER, name='a', evals={}), with_words(WORDS, name='b', init_from=InitFrom(stage='a')))
    with pytest.raises(UserError, match="'text' is tokenized by Words here and by another Words in stage a"):
        train_stages({stage.name: stage for stage in stages}, workdir=str(tmp_path))


def test_an_evaluation_reads_text_as_training_does():
    evaluation = Evaluation(with_words(OTHER).data, Accuracy())
    with pytest.raises(UserError, match=r'Words of 4 ids in data and by another vocabulary.* in evals.test.data'):
        with_words(WORDS, evals={'test': evaluation}).check()
    with_words(OTHER, evals={'test': evaluation}).check()
