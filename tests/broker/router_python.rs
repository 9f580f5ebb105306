//! The router in the words of a client in another language: nats-py.

use std::process::Command;

use crate::router_support::start;
use msgbench::broker::{Config, Shutdown};

/// A Python that has nats-py, or why there is none.
fn python() -> Result<String, String> {
    let python = std::env::var("MSGBENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let output = Command::new(&python).args(["-c", "import nats.aio.client"]).output();
    match output {
        Ok(output) if output.status.success() => Ok(python),
        Ok(output) => Err(format!("{python}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{python}: {error}")),
    }
}

#[test]
fn nats_py_is_served() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => {
            let remedy = "install it with `python3 -m pip install nats-py` and name that Python in MSGBENCH_PYTHON";
            assert!(std::env::var("MSGBENCH_NO_SKIP").as_deref() != Ok("1"), "no nats-py ({reason}); {remedy}");
            eprintln!("SKIPPED nats_py_is_served: no nats-py ({reason}); {remedy}");
            return;
        }
    };
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
