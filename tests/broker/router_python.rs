//! The router in the words of a client in another language: nats-py.

use std::process::Command;

use crate::needs;
use crate::router_support::start;
use msgbench::broker::{Config, Shutdown};

#[test]
fn nats_py_is_served() {
    let Some(python) = needs::python("nats.aio.client", "nats-py") else { return };
    let mut broker = start(Config::default());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/test_nats_py.py");
    // The script bounds every check of its own.
    let output = Command::new(python).args([script, &format!("nats://{}", broker.address)]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().last(), Some("ok 8"), "{text}");
    assert!(broker.counters.totals().messages_in > 2000);
    broker.ask(Shutdown::Drain);
    broker.ended();
}
