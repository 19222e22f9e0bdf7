"""Each correction has a test that fails without it: it is taken back here, and the test is run.

The simulator finds them too (docs/metadata.md names the seeds), but says less about why."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from raft.errors import StoredStateError
from raft.state import ClusterState
from tests.raft import (
    test_core,
    test_elections,
    test_leading,
    test_membership,
    test_replica,
    test_snapshots_between_nodes,
)
from tests.raft.lab import Lab
from tests.sim.raft.faults import FAULTS

WITNESSES: Mapping[str, Callable[[], None]] = {
    "SendsBeforeItIsDurable": test_core.test_nothing_leaves_before_it_is_durable,
    "CommitsBeforeItIsDurable": test_replica.test_what_is_answered_is_durable_at_that_moment,
    "ForgetsItsVote": test_elections.test_a_voter_that_restarts_does_not_vote_twice_in_a_term,
    "NeverSyncsFiles": test_replica.test_what_is_answered_is_durable_at_that_moment,
    "NeverSyncsDirectories": test_replica.test_snapshots_and_trimmed_logs_survive_power_cuts,
    "TrustsThePageCache": (
        test_replica.test_a_power_cut_takes_nothing_that_a_restart_has_read_back
    ),
    "BelievesItsOwnLog": (
        test_membership.test_nobody_is_told_that_a_voter_has_left_by_a_node_that_never_saw_it_join
    ),
    "KeepsATornTail": test_replica.test_a_torn_last_write_is_cut_off_before_anything_follows_it,
    "TrustsItsJournal": test_replica.test_a_journal_with_a_flipped_bit_is_refused,
    "TrimsBeforeTheSnapshot": test_replica.test_a_log_is_whole_until_its_snapshot_is_durable,
    "CountsAcksOfThePast": test_leading.test_an_acknowledgement_of_an_earlier_term_commits_nothing,
    "TruncatesWhatMatches": test_core.test_an_old_append_that_arrives_again_cuts_nothing_off,
    "CommitsWhatItDidNotCompare": (
        test_core.test_a_follower_commits_only_what_this_leader_showed_it
    ),
    "CommitsOnAChunk": test_snapshots_between_nodes.test_a_piece_of_a_snapshot_commits_nothing,
    "InstallsOldSnapshots": (
        test_snapshots_between_nodes.test_an_older_snapshot_is_ignored_and_an_installed_one_acknowledges_itself_only
    ),
    "CommitsEarlierTerms": test_leading.test_copies_of_an_earlier_terms_entry_do_not_commit_it,
    "AppendsWithoutComparing": (
        test_replica.test_entries_are_taken_only_behind_those_the_leader_has_there
    ),
    "NeverTruncates": test_leading.test_a_long_wrong_tail_is_replaced_in_few_rounds,
    "ListensToThePast": test_replica.test_entries_of_a_deposed_leader_are_not_taken,
    "AppliesBeforeCommit": test_replica.test_a_leader_that_reaches_nobody_commits_nothing,
    "KeepsALogThatDiffers": test_replica.test_a_log_that_contradicts_a_snapshot_goes,
    "KeepsTruncatedMembers": (
        test_membership.test_a_change_whose_entry_was_overruled_counts_no_more
    ),
    "KeepsOverruledMembers": (
        test_membership.test_a_change_whose_entry_was_overruled_counts_no_more
    ),
    "CountsVotesNotVoters": test_elections.test_votes_are_counted_by_voter_not_by_message,
    "CountsVotesOfThePast": test_elections.test_a_vote_of_an_earlier_term_is_nothing,
    "VotesTwice": test_replica.test_a_voter_has_one_vote_in_a_term,
    "VotesInThePast": test_replica.test_a_term_that_is_over_gets_no_more_votes,
    "ElectsByHalf": test_replica.test_half_of_the_voters_elect_nobody,
    "VotesForTheOutdated": (
        test_elections.test_a_candidate_who_lacks_what_is_committed_is_not_elected
    ),
    "ChangesAllAtOnce": test_membership.test_a_change_waits_for_the_one_before_it,
    "ChangesBeforeItsTerm": (
        test_membership.test_a_new_leader_changes_nobody_before_its_own_term_is_committed
    ),
    "KeepsItsNameOnANewDisk": (
        test_replica.test_a_voter_knows_its_vote_after_any_number_of_restarts
    ),
    "ForgetsItsAnswers": test_replica.test_a_command_whose_answer_was_slow_runs_once,
    "GuessesOutcomes": (
        test_replica.test_nobody_is_told_that_a_command_is_void_which_may_still_take_effect
    ),
    "AnswersBarriersAtOnce": test_replica.test_a_barrier_shows_what_others_were_answered_before_it,
}
"""For each fault, a test that passes with the correction in place."""


class _Deaf:
    """The simulator's oracle, who is not asked here."""

    def applied(self, _voter: str, _state: ClusterState) -> None:
        pass


def test_every_correction_has_its_test() -> None:
    assert set(WITNESSES) == set(FAULTS)


def test_the_table_of_corrections_names_the_tests_that_are_run_here() -> None:
    page = (Path(__file__).parents[3] / "docs" / "metadata.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \|.*\| `(test_\w+)`: `(test_\w+)` \|$", page, re.MULTILINE)
    witnesses = {
        (fault, test.__module__.rpartition(".")[2], getattr(test, "__name__", ""))
        for fault, test in WITNESSES.items()
    }
    assert set(rows) == witnesses


@pytest.mark.parametrize("fault", FAULTS)
def test_its_test_fails_without_the_correction(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty: Any = type(fault, (FAULTS[fault],), {"oracle": _Deaf()})
    monkeypatch.setattr(Lab, "node_class", faulty)
    with pytest.raises((AssertionError, StoredStateError, pytest.fail.Exception)):
        WITNESSES[fault]()
