//! The models; each tries thousands of orders.

use msgbench_models::model;

#[test]
fn frames_leave_whole_and_in_order() {
    // Room for everything; for a part of the first frame, of the second; for nothing; no socket.
    for takes in [Some(&[9, 9, 9, 9][..]), Some(&[1]), Some(&[9, 1]), Some(&[]), None] {
        model::frames_leave_whole_and_in_order(takes);
    }
}

#[test]
fn a_last_round_leaves_the_rest_to_the_writer_task() {
    model::a_last_round_leaves_the_rest_to_the_writer_task();
}

#[test]
fn a_finish_beside_a_publisher_is_not_lost() {
    for takes in [Some(&[9, 9, 9][..]), Some(&[1]), Some(&[9, 1]), None] {
        model::a_finish_beside_a_publisher_is_not_lost(takes);
    }
}

#[test]
fn who_waits_for_room_is_woken() {
    for takes in [Some(&[9, 9, 9][..]), Some(&[9, 1]), Some(&[]), None] {
        model::who_waits_for_room_is_woken(takes);
    }
}

#[test]
fn a_close_ends_everyone() {
    for takes in [Some(&[9, 9, 9][..]), Some(&[1]), None] {
        model::a_close_ends_everyone(takes);
    }
}

#[test]
fn an_ended_subscription_is_forgotten_once() {
    model::an_ended_subscription_is_forgotten_once();
}

#[test]
fn a_kept_route_misses_nothing_acknowledged() {
    model::a_kept_route_misses_nothing_acknowledged();
}

#[test]
fn two_changes_at_once_are_both_seen() {
    model::two_changes_at_once_are_both_seen();
}

#[test]
fn a_subscription_is_taken_out_once() {
    model::a_subscription_is_taken_out_once();
}
