//! What a calibration means for later runs, and the proof through brokers and a network that are
//! not ours.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

mod calibration;
mod late;
mod nats;
#[path = "../common/needs.rs"]
mod needs;
mod network;
mod proxy;
mod restart;
#[path = "../nats/server.rs"]
mod server;
mod trust;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");

/// `msgbench run` of a scenario in `dir`, with `args`; cites the certificate in `dir` only.
fn run(dir: &Path, text: &str, args: &[&str]) -> Output {
    let file = dir.join("s.toml");
    std::fs::write(&file, text).unwrap();
    Command::new(PROGRAM)
        .arg("run")
        .arg(&file)
        .args(args)
        .arg("--out")
        .arg(dir.join("results"))
        .env("MSGBENCH_CERTIFICATE", dir.join("certificate.json"))
        .output()
        .unwrap()
}

/// The record that `--format json` printed.
fn record(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", words(output)))
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
