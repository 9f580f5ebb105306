//! The log half of the reference broker against Apache Kafka and nats-server: the table of
//! `docs/log.md`.
//!
//!     cargo build --release --bin msgbench --example log_compare
//!     target/release/examples/log_compare cpu ack commit e2e start recover  # cpu-128, cpu-1024: one size alone
//!     MSGBENCH_LOAD=127.0.0.1:9092 target/release/examples/log_compare load # no broker is started; for a profile of one
//!
//! One bare client for every broker, so that no client library is the limit and every broker gets
//! the same bytes. Brokers are started fresh and take turns; each figure is the median of
//! `MSGBENCH_BENCH_REPEATS` (5) repeats, with its range. CPU is the broker process's own
//! (`/proc/PID/stat`, a Java virtual machine as a whole, after a warm-up). Kafka is found as by
//! `msgbench systems`, nats-server is `MSGBENCH_NATS_SERVER` or the one on PATH; what is not there
//! is left out, and said.

// What goes wrong in a measuring program ends it with its words.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod ack;
mod commit;
mod cpu;
mod e2e;
mod figures;
mod nats;
mod restart;
mod systems;
mod wire;

/// What ends a measurement.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        return Err("say what to measure: cpu, ack, commit, e2e, start, recover, load".into());
    }
    for what in wanted {
        match what.as_str() {
            "cpu" => cpu::run(&[128, 1024])?,
            "cpu-128" => cpu::run(&[128])?,
            "cpu-1024" => cpu::run(&[1024])?,
            "ack" => ack::run()?,
            "load" => cpu::load()?,
            "commit" => commit::run()?,
            "e2e" => e2e::run()?,
            "start" => restart::start()?,
            "recover" => restart::recover()?,
            other => return Err(format!("`{other}` is not one of cpu, ack, commit, e2e, start, recover, load").into()),
        }
    }
    Ok(())
}
