"""What REM found, in the words that people read."""

from dreamsvc.cli.exploration_text import candidates_text, exploration_rows, null_text, probe_text, tuning_rows
from dreamsvc.v1.dream_pb2 import (
    Exploration,
    Fit,
    Lift,
    Linking,
    NullModel,
    PseudoQueries,
    TunerDecision,
    Tuning,
)

PROBE = PseudoQueries(
    measured=True, single=220, single_before=0.96, single_after=0.964, pairs=1, pairs_before=0.5, pairs_after=1.0
)
REPORT = Exploration(
    linking=Linking(memories_read=1200, mentions=700, shared_entities=500, adjacent=30, links=1230, expanded=1100),
    fit=Fit(memories=1200, fitted=40, dimension=5, mean_average_precision=0.61, chance=0.02),
    queries=100,
    candidates=2000,
    verified=31,
    hypotheses=1,
    dismissed={"near": 500, "no_evidence": 1400, "linked": 0},
    novel_edges=31,
    null_model=NullModel(measured=True, overlap=0.42, overlap_shuffled=0.03, found=31, found_shuffled=2),
    lift=Lift(measured=False, pairs=3),
    notices=["a note"],
)


def test_a_whole_phase_is_told_row_by_row() -> None:
    rows = dict(exploration_rows(REPORT))
    assert rows["links"] == "1,230 between 1,200 new or changed memories"
    assert rows["  of"] == "700 mentions, 500 by names that few share, 30 next to each other in time"
    assert rows["  probe"].startswith("not measured: too few ")
    assert rows["  probe"].endswith("; the links are kept unproven")
    assert rows["positions"] == (
        "1,200 memories in 5 dimensions, 40 of them new; mean average precision 0.61 (by chance 0.02)"
    )
    assert rows["blind spots"] == "31 verified, 1 hypothesis"
    assert rows["novel edges"] == "31"
    assert rows["  lift"] == "not measured: 3 trusted pairs are too few"
    assert rows["note"] == "a note"


def test_what_was_refused_says_so() -> None:
    report = Exploration(linking=Linking(refused=True, probe=PROBE), queries=1, edges_refused=True)
    rows = dict(exploration_rows(report))
    assert rows["  probe"].endswith("; refused, nothing of it is kept")
    assert rows["novel edges"] == "0, refused by the pair probe"


def test_a_probe_of_no_links_leaves_nothing_unproven() -> None:
    assert dict(exploration_rows(Exploration(linking=Linking())))["  probe"] == "not measured"


def test_a_phase_that_did_not_come_to_walking_tells_of_no_walks() -> None:
    assert [label for label, _ in exploration_rows(Exploration(notices=["no time"]))] == ["note"]


def test_numbers_are_put_in_words() -> None:
    assert probe_text(PROBE) == "recall@5 of 220 sentences 96.0 % -> 96.4 %, of 1 pair 50.0 % -> 100.0 %"
    assert candidates_text(REPORT) == "2,000 pairs; dismissed: 1,400 no evidence, 500 near"
    assert null_text(REPORT.null_model) == "overlap 0.42, with shuffled edges 0.03; 31 found against 2"
    assert null_text(NullModel()) == "not measured"


def test_the_tuner_tells_where_it_stands_and_what_it_did_last() -> None:
    decision = TunerDecision(batch=7, parameter="sparsity", before=0.05, after=0.03, why="the activation was 8 %")
    tuning = Tuning(target_activation=0.05, activation=0.048, sparsity=0.022, adjustments=9, decisions=[decision])
    rows = dict(tuning_rows(tuning))
    assert rows["activation"] == "4.8 %, aims at 5.0 %"
    assert "sparsity 0.022" in rows["  now"]
    assert rows["  last"] == "sparsity 0.05 -> 0.03: the activation was 8 %"
