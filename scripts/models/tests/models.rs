//! The models; each tries thousands of orders.

use msgbench_models::model;

#[test]
fn frames_leave_whole_and_in_order() {
    // Room for everything; for a part of the first frame; for nothing; no socket.
    for takes in [Some(&[9, 9, 9, 9][..]), Some(&[1]), Some(&[]), None] {
        model::frames_leave_whole_and_in_order(takes);
    }
}

#[test]
fn who_waits_for_room_is_woken() {
    for takes in [Some(&[9, 9, 9][..]), Some(&[1]), Some(&[]), None] {
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
fn a_subscription_is_taken_out_once() {
    model::a_subscription_is_taken_out_once();
}
