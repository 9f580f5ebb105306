//! The models; each tries thousands of orders.

use msgbench_models::model;

#[test]
fn frames_leave_whole_and_in_order() {
    // Room for everything; for a part of the first frame; for nothing.
    for takes in [&[9, 9, 9, 9][..], &[1], &[]] {
        model::frames_leave_whole_and_in_order(takes);
    }
}

#[test]
fn who_waits_for_room_is_woken() {
    for takes in [&[9, 9, 9][..], &[1], &[]] {
        model::who_waits_for_room_is_woken(takes);
    }
}

#[test]
fn a_close_ends_everyone() {
    for takes in [&[9, 9, 9][..], &[1]] {
        model::a_close_ends_everyone(takes);
    }
}

#[test]
fn a_kept_route_misses_nothing_acknowledged() {
    model::a_kept_route_misses_nothing_acknowledged();
}

#[test]
fn a_subscription_is_taken_out_once() {
    model::a_subscription_is_taken_out_once();
}
