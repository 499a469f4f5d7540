"""Hostile settings, overrides and options: one line, exit status 2, nothing made."""

import time

import pytest

from foretrace.errors import is_plain

SLOWEST_S = 5

TRAIN = {
    "trainer.max_epochs": ["", "abc", "1e400", "99999999999999999999", "1.5", "true", "[1,2]", "{a: 1}", "null", "nan",
                           "-1", "2024-01-01", "${seed", "${nope}", "${nope:1}", "${trainer.max_epochs}",
                           "${oc.env:NOPE}", "???", "\n", "\0", "é", "5,6", "interval(0,1)", "glob(*)"],
    "model.hidden_sizes": ["8", "[]", "[8,-8]", "[[8]]", "[8.5]", "[null]", "{0: 8}", "[1000000000]"],
    "optimizer.lr": ["0", "1e-500", "1e500"],
    "optimizer.name": ["nope", "os.system", "__class__", "Optimizer", "''"],
    "optimizer": ["nope", "5", "null", "../data/files"], "scheduler.name": ["nope", "LambdaLR", "LRScheduler"],
    "scheduler": ["3", "../../x", "/etc/passwd"], "seed": ["-1", "4294967296"],
    "data": ["nope", "''", "../../etc/passwd", "{source: files}"], "data.source": ["files", "[files]", "null", "mars"],
    "data.split": ["null", "{train: 1, valid: 1, test: 1}", "{train: 1e308, valid: 1e308, test: 1}"],
    "data.window": ["0", "1001", "["], "data.steps": ["0", "99999999999999999999"], "data.batch_size": ["0", "true"],
    "loss": ["null", "[]"], "loss.open_loop": ["5", "{weight: 1}"], "evaluation.horizon": ["99999999999999999999"],
    "trainer.precision": ["16"], "trainer.early_stopping": ["{patience: 0, min_delta: 0}"], "trainer": ["5", "[]"],
    "tracking.tags": ["5", "[a]", "{a: [1]}", "{a: {b: 1}}", "{1: 2}"],
    "tracking.experiment": ["''", "[a]", "null"], "tracking.run_name": ["5", "[a]"],
    "resume": ["nope", "../../x", "[]", "last"], "rerun": ["nope", "=1+1"], "sweep.resume": ["nope"],
    "experiment": ["nope"], "hydra/launcher": ["nope"], "hydra.run.dir": ["null"], "hydra.mode": ["x"],
    "hydra.nope": ["5"], "widow": ["5"],
}  # fmt: skip
WORDS = [
    ["+new=5"], ["++new.deep=5"], ["+optimizer.foo=1"], ["+optimizer._target_=os.system"], ["+optimizer.betas=[5,5]"],
    ["+optimizer.eps=x"], ["+scheduler.foo=1"], ["+seed=5"], ["+data.__class__=5"], ["~seed"], ["~model"], ["~nope"],
    ["~"], ["+"], ["=5"], ["+a=b=c"], [""], ["seed"], ["seed:5"], ["seed 5"], ["séed=5"], ["+🤖=5"],
    ["--seed=5"], ["-x"], ["--nope"], ["--cfg", "nope"], ["--config-dir"], ["--config-dir", "nope"],
    ["--config-name", "nope"], ["--experimental-rerun", "evil.pickle"], ["seed=1", "-m", "seed=2"],
    ["resume=a", "rerun=b"], ["data=files"], ["data=files", "data.path=nope"], ["data=files", "data.path=[a,b]"],
    ["data=files", "data.path=nope", "data.missing=guess"], ["data=files", "data.path=nope", "data.covariates=x"],
    ["data=files", "data.path=nope", "data.units={a: [m]}"], ["data=files", "data.path=nope", "data.dt_s=0"],
    ["data=halfcheetah_ltc"], ["data=halfcheetah_ltc", "data.root=nope"], ["data=halfcheetah_ltc", "data.root=mlruns"],
    ["data=walker2d_cfc", "data.root=/dev/null"], ["data=walker2d_cfc", "data.root=/etc/passwd"],
]  # fmt: skip
OTHERS = [
    ["evaluate"], ["evaluate", "run=a", "checkpoint=b"], ["evaluate", "runs=[a]"], ["evaluate", "runs=a"],
    ["evaluate", "run=../../x"], ["evaluate", "checkpoint=x"], ["evaluate", "run=a", "log_to=old"],
    ["evaluate", "run=a", "data.root=x"],
    ["evaluate", "checkpoint=nope.ckpt", "data=files", "data.path=nope"], ["evaluate", "run=a", "+new=1"],
    ["export"], ["export", "run=a"], ["export", "run=a", "format=pickle"], ["export", "run=a", "register_as=''"],
    ["export", "run=nope", "format=onnx"], ["export", "run=a", "register_as=b", "output=c"],
    ["predict"], ["predict", "run=a", "model=b", "data.path=c", "output=d.csv"],
    ["predict", "model=nope.safetensors", "data.path=nope.csv", "output=d.csv"],
    ["predict", "run=a", "data.path=c", "output=d.csv", "horizon=0"],
    ["predict", "run=a", "data.path=c", "output=d.csv", "horizon=99999999999999999999"],
    ["predict", "run=a", "data.path=c", "output=d.xlsx"], ["predict", "run=a", "data.path=c", "output=/nope/d.csv"],
    ["predict", "run=a", "data.path=c", "output=d.csv", "mode=middle"],
    ["predict", "run=nope", "data.path=src", "output=''"],
]  # fmt: skip
OPTUNA = ["train", "-m", "hydra/sweeper=optuna"]
SWEEPS = [["train", "-m", word] for word in (
    "seed=range(0)", "seed=range(1,10,0)", "seed=range(1,1e9)",
    "seed=choice()", "seed=interval(0,1)", "seed=glob(*)", "model=glob(x*)", "seed=1,x", "seed=1,-1", "seed=1,,2",
    "seed=1,", "model.dropout=0,2", "model.hidden_sizes=[8],[0]", "trainer.max_epoch=1,2", "model=a,b",
    "optimizer.name=Adam,Adem", "hydra/launcher=nonsense", "hydra.launcher.n_jobs=2", "hydra/sweeper=nope",
    "data=files,halfcheetah", "seed=${oc.env:HOME},1", "resume=a,b",
    "seed=range(x)", "seed=shuffle(range(1000000000))", "seed=range(0,inf)", "model.dropout=range(0,0.5,1e-12)",
    "seed=shuffle(range(5)", "seed=sort(1,[2])",
)]  # fmt: skip
SWEEPS += [["train", *words] for words in (
    ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=x", "seed=1,2"],
    ["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0", "seed=1,2"],
    ["-m", "seed=range(1000)", "model.dropout=range(0,0.9,0.001)"],
    ["sweep.resume=''"], ["sweep.resume=x"], ["sweep.resume=../x"], ["sweep.resume=1,2"], ["resume=''"], ["rerun=''"],
    ["resume=x"], ["rerun=x"], ["resume=a", "rerun=b"], ["resume=../../x"],
)]  # fmt: skip
SWEEPS += [[*OPTUNA, *words] for words in (
    [], ["optimizer.lr=1"], ["optimizer.lr=interval(1,0)"], ["optimizer.lr=tag(log,interval(0,1))"],
    ["optimizer.lr=tag(log,interval(-1,1))"], ["optimizer.lr=interval(0,x)"], ["optimizer.lr=interval(a,b)"],
    ["optimizer.lr=tag(lag,interval(0.1,1))"], ["optimizer.lr=interval(0.1,inf)"], ["seed=range(1,1)"],
    ["model.dropout=interval(0,2)"], ["model.dropout=interval(0,0.5)", "hydra.sweeper.n_trials=0"],
    ["model.dropout=interval(0,0.5)", "hydra.sweeper.n_trials=-1"],
    ["model.dropout=interval(0,0.5)", "hydra.sweeper.n_trials=x"],
    ["model.dropout=interval(0,0.5)", "hydra.sweeper.n_jobs=0"], ["model.drop=interval(0,0.5)"],
    ["model.dropout=interval(0,0.5)", "hydra.sweeper.nope=1"], ["model.hidden_sizes=[8],[x]"],
)]  # fmt: skip
RUNS = [["runs", *words] for words in (
    ["nope"], ["recover", "../x"], ["recover", "x", "y"], ["sync", "x"], ["recover", "''"], ["list", "x"], ["--nope"],
    ["sync", "a" * 1000], ["x=1"], ["recover", "\n"], ["sync", "\x1b[31m"],
)]  # fmt: skip
OTHERS += SWEEPS + RUNS + [["evaluate", "run=''"], ["predict", "run=''", "data.path=src", "output=a.csv"]]
LINES = [["train", f"{key}={value}"] for key, values in TRAIN.items() for value in values]
LINES += [["train", *words] for words in WORDS] + OTHERS


@pytest.mark.parametrize("line", LINES, ids=lambda line: ascii(" ".join(line))[1:50])
def test_wrong_command_line_gets_one_line_and_makes_nothing(typed, bare, line):
    began = time.process_time()
    answer = typed(*line)
    assert time.process_time() - began < SLOWEST_S
    assert answer.status == 2, answer.err
    [said] = answer.err.splitlines()
    assert said.startswith("error: ")
    assert all(map(is_plain, said))
    assert len(said) < 1300
    assert list(bare.iterdir()) == []
