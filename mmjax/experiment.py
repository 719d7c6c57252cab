"""Everything that decides a run, frozen."""

from dataclasses import dataclass, field

from mmjax.balance.base import NO_BALANCE, Balance
from mmjax.data import Data, Feed
from mmjax.data.tokenizer import check_vocabularies
from mmjax.errors import UserError, nearest
from mmjax.evals.base import Evaluator, PairEvaluator
from mmjax.generate.base import FORWARD, Predictor
from mmjax.generate.steps import check_writes
from mmjax.guard import Guard
from mmjax.model import Model
from mmjax.objectives.base import Objective
from mmjax.optim import AdamW
from mmjax.sharding import MeshShape
from mmjax.views.base import CLEAN, View
from mmjax.views.mined import Mined

PRECISIONS = ('float32', 'bfloat16')


@dataclass(frozen=True)
class Evaluation:
    """A split and how it is scored.

    every: steps between evaluations; 0: only once, after the last step, as a test split should be. references: scores
    to read a metric against, by a short name (chance, one modality alone, a published model), shown beside it. view:
    what is seen of each batch, such as one modality alone. predictor: how the model is asked; a text is written by
    `Generate`.
    """

    data: Data
    evaluator: Evaluator
    every: int = 0
    references: dict[str, float] = field(default_factory=dict)
    view: View = field(default=CLEAN, metadata={'old': CLEAN})
    predictor: Predictor = field(default=FORWARD, metadata={'old': FORWARD})


@dataclass(frozen=True)
class Checkpoint:
    """every: steps between saves (the last step is always saved). keep: how many of the newest stay on disk."""

    every: int = 500
    keep: int = 2


@dataclass(frozen=True)
class Log:
    """every: steps between rows of metrics.jsonl. tensorboard, wandb: also write them there. source_gradients: of a
    mixture, also the norm of the gradient of each source, for which every such row costs a further pass for each.
    """

    every: int = 20
    tensorboard: bool = True
    wandb: bool = False
    source_gradients: bool = field(default=False, metadata={'old': False})


@dataclass(frozen=True)
class InitFrom:
    """Where a run starts: at fresh parameters, or where it has the same parameters (by path, after `map`) at those of
    another run. Only when it begins: a run that is resumed goes on from its own checkpoint.

    run: the directory of another run, whose newest checkpoint is read. stage: or the name of an earlier stage of the
    same config (see `Experiment`). map: beginnings of paths in the old run to those in this one, such as
    `{'encoders_photo': 'encoders_image'}`; of several that fit the longest counts. left_out: patterns (see `paths`) of
    this run's parameters that start fresh whatever the old run has. average: the old run's moving average where it has
    one, as evaluation does; else its last parameters.

    What the old run has in another shape is an error unless left out: tables of positions or words of another length
    too, nothing is interpolated. The old optimiser's moments are not taken. Adapters of the old run (see `nn.lora`) are
    merged into its weights, so that the new model, with adapters of its own or without, begins where the old one ended.
    What was loaded, what is new and what of the old run is not used is printed, and stands in RUN/init.json.
    """

    run: str = ''
    stage: str = ''
    map: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    average: bool = True

    @property
    def given(self) -> bool:
        """Whether there is a run to start from."""
        return bool(self.run or self.stage)

    def check(self) -> None:
        """Raises UserError on fields that contradict one another."""
        if self.run and self.stage:
            raise UserError(f'init_from: run {self.run} and stage {self.stage} are both given; give one of them')
        if not self.given and self != NO_INIT:
            raise UserError('init_from: map, left_out and average are of a run; name it in init_from.run')


NO_INIT = InitFrom()


@dataclass(frozen=True)
class Experiment:
    """A model, what it learns from, what it minimises, how, for how long, and how it is scored.

    objectives, evals: by name; the metrics are called `loss/NAME` and `NAME/METRIC`. batch_size: examples a step, over
    all devices. precision: of the computation, 'float32' or 'bfloat16'; parameters and optimiser stay float32. balance:
    what is done to the gradients before the optimiser has them, so that no modality holds another back. init_from: the
    run whose parameters it starts from. deterministic: the same bits on any number of devices over which a batch is cut
    (`train/fixed_order.py` tells how, where not, and what it takes), and on GPUs only operations that repeat bit for
    bit; without it a run repeats on the same devices alone, and on GPUs not even there. patience: seconds without a
    step, or a batch of an evaluation, after which the run counts as hanging: it tells where every thread is, and ends;
    0: never. bad_records: the share of examples that may be of no use (see `data/bad.py`): they count for nothing, and
    are named in RUN/bad_records.jsonl; a run that met more than chance makes of this share ends. guard: what happens
    where numbers go wrong.

    A config file may return several, as a tuple: stages, in their order, each a run WORKDIR/NAME of its own. A later
    one starts from an earlier one by `InitFrom(stage=NAME)`.

        pretrain = Experiment(name='pretrain', …)
        probe = replace(pretrain, name='probe', objectives=…, init_from=InitFrom(stage='pretrain'),
                        optim=AdamW(rates={'*': 0.0, 'decoders_answer': 1.0}))
        return pretrain, probe
    """

    name: str
    model: Model
    data: Feed
    objectives: dict[str, Objective]
    evals: dict[str, Evaluation]
    optim: AdamW = field(default_factory=AdamW)
    steps: int = 1000
    batch_size: int = 128
    seed: int = 0
    precision: str = 'float32'
    mesh: MeshShape = field(default_factory=MeshShape)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    log: Log = field(default_factory=Log)
    balance: Balance = field(default=NO_BALANCE, metadata={'old': NO_BALANCE})
    init_from: InitFrom = field(default=NO_INIT, metadata={'old': NO_INIT})
    deterministic: bool = field(default=False, metadata={'old': False})
    patience: float = field(default=1800.0, metadata={'old': 1800.0})
    bad_records: float = field(default=0.01, metadata={'old': 0.01})
    guard: Guard = field(default_factory=Guard, metadata={'old': Guard()})

    def check(self) -> None:
        """Raises UserError on values that no run could have, before anything costly starts."""
        for name in ('steps', 'batch_size'):
            if getattr(self, name) < 1:
                raise UserError(f'{name}: {getattr(self, name)} is below 1')
        if self.patience < 0:
            raise UserError(f'patience: {self.patience} seconds; 0 is for ever')
        if not 0 <= self.bad_records <= 1:
            raise UserError(f'bad_records: {self.bad_records} is no share; use a number from 0 to 1')
        if self.seed < 0 or self.optim.accumulate < 1:
            raise UserError(f'seed {self.seed} and optim.accumulate {self.optim.accumulate}: at least 0 and 1')
        self.model.fusion.check_modalities(self.model.encoders)
        self.init_from.check()
        self.guard.check()
        self._check_views()
        for name, evaluation in self.evals.items():
            if not isinstance(evaluation.data, Data):
                kind = type(evaluation.data).__name__
                raise UserError(f'evals.{name}.data is a {kind}; score one split of one source at a time (Data)')
            trained = {f'data.{part}'.rstrip('.'): data.transforms for part, data in self.data.parts.items()}
            check_vocabularies(trained | {f'evals.{name}.data': evaluation.data.transforms})
            if not name or '/' in name:
                raise UserError(f"evals: '{name}' names files and metrics; give it a name without '/'")
        for evaluation in self.evals.values():
            evaluation.predictor.check(self.model)
        for name, objective in self.objectives.items():
            if objective.causal:
                check_writes(self.model, stream=getattr(objective, 'target', ''), asker=f'objectives.{name}')
        if self.precision not in PRECISIONS:
            raise UserError(f"precision: unknown '{self.precision}' (there are {PRECISIONS})")
        if not self.objectives:
            raise UserError('objectives: there is none, so there is nothing to minimise')
        if self.checkpoint.every < 1 or self.checkpoint.keep < 1 or self.log.every < 1:
            raise UserError('checkpoint.every, checkpoint.keep and log.every must be at least 1')
        if self.log.source_gradients and list(self.data.parts) == ['']:
            raise UserError('log.source_gradients: the data are no Mixture, which alone has several sources')

    def _check_views(self) -> None:
        for name, objective in self.objectives.items():
            if len(objective.views) > 1 and any(isinstance(view, Mined) for view in objective.views):
                raise UserError(f'objectives.{name}: rows of a mined view have no others beside them; leave it out')
            if isinstance(objective.view, Mined) and self.optim.accumulate > 1:
                raise UserError(
                    f'optim.accumulate: {self.optim.accumulate} parts, but objective {name} sees '
                    f'{type(objective.view).__name__}, which is mined from the whole batch at once; use 1'
                )
        for name, evaluation in self.evals.items():
            if isinstance(evaluation.view, Mined):
                raise UserError(
                    f'evals.{name}.view: {type(evaluation.view).__name__} is mined while training; evaluate on a view '
                    'that the batch alone gives, such as Matching'
                )
            if isinstance(evaluation.evaluator, PairEvaluator) and evaluation.view != CLEAN:
                raise UserError(f'evals.{name}.view: pairs are made of the examples as they are; leave the view out')
            if isinstance(evaluation.evaluator, PairEvaluator) and evaluation.predictor != FORWARD:
                raise UserError(f'evals.{name}.predictor: pairs are scored by one pass each; leave the predictor out')
            if isinstance(evaluation.evaluator, PairEvaluator):
                for modality in evaluation.evaluator.modalities:
                    if modality not in self.model.encoders:
                        there = sorted(self.model.encoders)
                        raise UserError(f"evals.{name}: no encoder '{modality}'{nearest(modality, there)} ({there})")
