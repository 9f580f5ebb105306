//! What the harness itself costs, without client and network.
//!
//! `cargo bench --bench harness` prints one Markdown table; `MSGBENCH_BENCH_REPEATS` (7) runs are
//! interleaved and the median and the range shown. How late the generator is at a given rate is
//! measured by `msgbench run scenarios/floor.toml`.

use msgbench::engine::cost::{publishing, receiving};
use msgbench::units::now;

const MESSAGES: u64 = 5_000_000;

fn clock() -> f64 {
    let begun = now();
    for _ in 0..MESSAGES {
        std::hint::black_box(now());
    }
    (now() - begun) as f64 / MESSAGES as f64
}

fn main() {
    let repeats = std::env::var("MSGBENCH_BENCH_REPEATS").ok().and_then(|n| n.parse().ok()).unwrap_or(7);
    let mut all: Vec<(&str, Vec<f64>)> = [
        "one clock read",
        "receive 128 B: verify, books, order, two histograms, intervals",
        "receive 128 B: the same, were the clock read for each message and not for a batch of 64",
        "receive 128 B: of that, making and handing over the message",
        "receive 1 KiB: verify, books, order, two histograms, intervals",
        "receive 1 KiB: of that, making and handing over the message",
        "publish 128 B: schedule, stamp, books, lag, acknowledgement, three histograms",
    ]
    .map(|name| (name, Vec::new()))
    .into();
    for _ in 0..repeats {
        let ((small, small_from_memory), (large, large_from_memory)) =
            (receiving(MESSAGES, 128, false), receiving(MESSAGES, 1024, false));
        let (each, _) = receiving(MESSAGES, 128, true);
        let round = [clock(), small, each, small_from_memory, large, large_from_memory, publishing(MESSAGES)];
        all.iter_mut().zip(round).for_each(|((_, values), value)| values.push(value));
    }
    println!("| ns for each message | median of {repeats} | range |\n|---|---:|---:|");
    for (name, mut values) in all {
        values.sort_by(f64::total_cmp);
        println!("| {name} | {:.1} | {:.1} to {:.1} |", values[values.len() / 2], values[0], values[values.len() - 1]);
    }
}
