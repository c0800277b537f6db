//! What a store means: every back end passes this suite, and what it does not say a back end may choose.
//!
//! A back end says how an empty store is made and gets one test for each case:
//!
//! ```text
//! async fn make() -> tsp_store::conformance::Made { Made::from(Arc::new(MyStore::new()) as Arc<dyn WholeStore>) }
//! tsp_store::conformance_tests!(make);
//! ```
//!
//! Time is an argument everywhere, so a case waits for nothing. After each case the auditor's sums must
//! balance.

mod apps;
mod attempts;
mod audit;
mod begin;
mod by_key;
mod claim;
mod configs;
mod duplicates;
mod extremes;
mod finish;
mod fire;
mod fixture;
mod idempotency;
mod model_test;
mod model_test_configs;
mod nodes;
mod operators;
mod overlap;
mod parks;
mod replay;
mod rescue;
mod retention;
mod rng;
mod samples;
mod search;
mod submit;
mod tokens;

use std::any::Any;
use std::sync::Arc;

use fixture::Fixture;
use futures::FutureExt;
use futures::future::BoxFuture;
use tsp_store::WholeStore;

/// An empty store, and what must live as long as it (a directory, a lock).
pub struct StoreUnderTest {
    pub store: Arc<dyn WholeStore>,
    pub guard: Box<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for StoreUnderTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreUnderTest").finish_non_exhaustive()
    }
}

impl From<Arc<dyn WholeStore>> for StoreUnderTest {
    fn from(store: Arc<dyn WholeStore>) -> Self {
        Self { store, guard: Box::new(()) }
    }
}

/// Makes an empty store, of more than one shard, for each case.
pub type StoreFactory<'a> = &'a (dyn Fn() -> BoxFuture<'static, StoreUnderTest> + Sync);

/// One thing that must hold.
#[derive(Clone, Copy)]
pub struct Case {
    pub topic: &'static str,
    pub name: &'static str,
    run: for<'a> fn(&'a Fixture) -> BoxFuture<'a, ()>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}::{}", self.topic, self.name)
    }
}

impl Case {
    /// Panics with what was expected when it does not hold.
    pub async fn run(&self, make: StoreFactory<'_>) {
        let made = make().await;
        let fixture = Fixture::new(made.store.clone()).await;
        (self.run)(&fixture).await;
        fixture.check_sums().await;
    }
}

/// The whole suite.
pub const CASES: &[Case] = crate::conformance_tests!(@all);

/// The case of that name; the generated tests look theirs up.
pub fn case(topic: &str, name: &str) -> Case {
    let found = CASES.iter().find(|case| case.topic == topic && case.name == name);
    *found.unwrap_or_else(|| panic!("the suite has no case `{topic}::{name}`"))
}

/// Runs every case and panics with the names of those that failed.
pub async fn run_all(make: StoreFactory<'_>) {
    let mut failed = Vec::new();
    for case in CASES {
        if std::panic::AssertUnwindSafe(case.run(make)).catch_unwind().await.is_err() {
            failed.push(format!("{case:?}"));
        }
    }
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:#?}", failed.len(), CASES.len());
}

/// Runs one case on a runtime of its own.
///
/// # Panics
/// When the case does not hold.
pub fn run_blocking(case: Case, make: StoreFactory<'_>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime without threads needs nothing that can be missing").block_on(case.run(make));
}

/// One `#[test]` for each case of the suite, in a module for each topic. `$make` is the path of an
/// `async fn() -> StoreUnderTest` in the calling module.
#[macro_export]
macro_rules! conformance_tests {
    ($make:path) => { $crate::conformance_tests! { @list tests ($make) } };
    (@all) => { $crate::conformance_tests! { @list all () } };
    (@tests ($make:path) $($topic:ident { $($case:ident)+ })+) => {
        $(mod $topic {
            use super::*;
            $(#[test]
            fn $case() {
                let case = $crate::conformance::case(stringify!($topic), stringify!($case));
                $crate::conformance::run_blocking(case, &|| Box::pin($make()));
            })+
        })+
    };
    (@all () $($topic:ident { $($case:ident)+ })+) => {
        &[$($(Case {
            topic: stringify!($topic),
            name: stringify!($case),
            run: |fixture| Box::pin($topic::$case(fixture)),
        },)+)+]
    };
    (@list $do:ident $args:tt) => { $crate::conformance_tests! { @$do $args
        apps {
            an_app_is_made_once_and_found_in_the_config_cache
            an_edit_changes_only_what_it_names
            an_app_with_configs_is_not_deleted
            a_key_is_found_by_its_hash_with_all_it_says
            keys_belong_to_their_app
            catalog_changes_are_in_the_audit_log
        }
        configs {
            a_new_config_is_in_the_config_cache
            every_field_is_kept
            a_save_is_made_only_of_the_expected_version
            a_kind_never_changes
            a_span_changes_only_without_open_tasks
            an_unknown_app_or_config_is_not_found
            holding_and_letting_go_are_changes
            a_config_with_open_tasks_is_not_deleted
            an_id_is_never_used_again
            a_schedule_has_a_cursor
            config_changes_are_in_the_audit_log
        }
        nodes {
            a_node_id_is_never_used_again
            epochs_only_rise
            an_id_slot_only_rises
            holders_of_a_slot_never_share_an_id
            a_slot_left_far_ahead_can_still_be_used
        }
        submit {
            a_created_task_is_seen_at_once
            every_field_comes_back
            each_element_of_a_batch_stands_alone
            a_paused_config_takes_tasks_and_a_disabled_one_none
            an_empty_store_has_nothing
            the_same_id_again_is_the_same_task
            an_id_of_another_task_fails_its_call
            a_refusal_comes_before_the_id
            a_task_is_made_at_home_alone
        }
        duplicates {
            ignore_returns_the_open_task
            a_key_twice_in_one_batch_is_one_task
            reset_moves_the_open_task
            reset_without_a_payload_keeps_it
            reset_of_an_executing_task_comes_after_the_current_attempt
            reset_of_an_awaiting_task_is_at_once
            add_creates_another_beside
            a_key_is_free_after_the_end_and_in_other_configs
            tasks_without_a_key_are_never_duplicates
        }
        idempotency {
            a_repeat_gets_the_stored_answer
            another_body_is_a_mismatch
            an_expired_key_is_new
            a_refusal_is_not_kept
            a_stored_answer_outlives_what_it_spoke_of
            elements_of_a_batch_have_their_own_keys
            apps_and_configs_are_kept_too
        }
        by_key {
            the_open_task_else_the_latest_ended
            the_latest_ended_is_the_one_that_ended_last
            an_open_added_task_is_not_the_keys
            configs_share_no_keys
        }
        claim {
            rows_come_by_due_time_and_id
            a_claim_request_bounds_number_and_time
            a_claim_may_look_ahead
            claims_are_disjoint
            claim_requests_of_several_configs_are_served_in_order
            a_deposed_owner_claims_nothing
            what_has_expired_ends_at_its_claim
            earliest_due_times_follow_the_rows
        }
        begin {
            a_good_message_begins_the_next_attempt
            a_stale_message_is_dropped
            a_doubled_message_begins_once
            the_row_of_a_held_config_is_given_back
            a_row_ahead_of_its_time_waits_or_goes_back
            what_has_expired_ends_at_its_begin
            answers_are_in_the_order_of_the_batch
            executing_lists_what_runs_under_a_node
            release_gives_back_what_is_claimed_and_nothing_else
        }
        finish {
            each_outcome_leads_where_the_table_says
            an_attempt_is_closed_once
            a_wrong_fence_is_too_late
            an_old_node_may_still_finish
            a_cancel_since_begin_makes_it_the_last_attempt
            a_finish_follows_the_config_of_its_moment
            a_task_may_bring_its_own_retry_policy
            a_task_is_tried_until_its_attempts_are_used_up
        }
        rescue {
            return_to_scheduled_gives_back_what_is_claimed
            in_flight_lists_what_is_claimed_or_runs
            a_lost_worker_gives_its_tasks_back
            a_loss_yields_to_cancel_and_reset
            end_waits_ends_what_is_over
            a_deadline_is_no_due_time
            a_deposed_owner_rescues_nothing
            a_new_owner_finds_the_rows_of_the_old
        }
        operators {
            each_command_in_each_state_is_what_the_transition_says
            a_task_is_meant_by_its_key
            an_unknown_task_is_not_found
            commands_that_come_together_are_served_in_turn
            what_has_expired_ends_at_resume_and_run
            cancel_open_cancels_a_config_bit_by_bit
            cancel_open_ends_what_is_awaited_with_a_flag
            cancel_open_takes_what_runs_last
            changes_are_in_the_audit_log
        }
        tokens {
            complete_ends_an_awaited_and_a_running_attempt
            a_receiver_may_ask_for_a_retry_or_give_up
            a_wrong_token_does_nothing
            the_token_of_an_earlier_attempt_is_void
            a_replay_voids_the_token
            progress_is_kept_and_extends_the_deadline
        }
        attempts {
            the_single_successful_attempt_is_listed
            several_attempts_are_listed_in_order
            other_ends_are_listed_too
            a_replay_keeps_the_attempts_before_it
            a_replay_that_never_begins_changes_no_attempt
        }
        replay {
            a_replayed_task_runs_again_under_its_id
            a_replayed_task_takes_its_key_back
            a_key_in_use_refuses_a_replay
            an_added_task_is_replayed_beside
            a_task_away_from_home_is_replayed_beside
            a_disabled_config_takes_no_replay
            a_task_of_a_deleted_config_stays_ended
        }
        search {
            every_filter_in_every_order_and_page_size
            a_scope_ends_at_its_app
            a_rare_row_among_many_is_found
            pages_survive_changes_between_them
        }
        fire {
            a_step_makes_its_slots_and_moves_the_cursor
            a_step_without_slots_still_moves_the_cursor
            an_occurrence_exists_once
            a_stale_cursor_is_left_alone
            a_step_of_another_config_version_is_stale
            a_held_config_does_not_fire
            a_deposed_owner_does_not_fire
            without_a_cursor_nothing_fires
            without_a_schedule_nothing_fires
            a_slot_whose_id_is_taken_fails_its_step
            a_run_by_hand_takes_no_slot
            a_late_slot_is_due_at_once
            each_step_of_a_call_stands_alone
            a_schedule_twice_in_one_call_takes_two_steps
            ten_thousand_slots_are_made_beside_others
        }
        overlap {
            allow_makes_every_slot
            skip_makes_none_while_one_is_open
            queue_one_keeps_one_waiting
            the_waiting_one_goes_before_a_new_slot
            a_run_by_hand_counts_as_open
            configs_do_not_overlap_each_other
        }
        parks {
            the_longest_wait_counts
            an_end_counts_for_what_was_asked_for_before_it
            they_outlive_their_owner
            what_is_over_for_long_is_forgotten
        }
        retention {
            ended_tasks_go_after_their_retention
            open_tasks_never_go
            a_call_drops_at_most_its_limit
            a_replayed_task_is_kept_from_its_last_end
            the_history_of_a_deleted_config_goes
            the_occurrences_of_a_deleted_config_go
            stored_answers_go_after_their_expiry
            occurrences_at_the_cursor_stay
            old_entries_of_the_audit_log_go
        }
        audit {
            the_sums_balance_after_every_step
            open_rows_are_counted_by_status
            overdue_rows_are_counted_by_config
            cursors_are_part_of_it
        }
        extremes {
            keys_are_compared_by_their_bytes
            any_point_in_time_is_stored_and_found
            payloads_come_back_byte_for_byte
            empty_batches_do_nothing
            batches_of_a_thousand
            many_callers_at_once
        }
        model_test {
            random_histories_are_answered_as_by_the_memory_store
        }
    } };
}
