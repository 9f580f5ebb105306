//! Recovery of a log whose newest segment is any bytes, with Kafka's record batches.
//!
//!     cargo +nightly fuzz run --fuzz-dir scripts/fuzz log_segment -- -max_total_time=60 -rss_limit_mb=1024
//!
//! Checked: no panic; what is recovered is read back from every offset; an append goes on behind
//! it; recovering again changes nothing.
//!
//! The engine is taken in by path, so that only it is built.
#![no_main]
#![allow(dead_code, unused_imports, reason = "a part of what the project uses")]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;

#[path = "kafka.rs"]
mod kafka;
#[path = "../../../src/broker/log/mod.rs"]
mod log;

/// The one word of the broker that the engine needs.
mod broker {
    pub mod shared {
        pub fn log_error(words: impl std::fmt::Display) {
            eprintln!("{words}");
        }
    }
}

use kafka::batch::{self, RecordBatches};
use log::{BatchFormat as _, Log, LogOptions};

fn open(dir: &std::path::Path) -> Arc<Log> {
    let mut options = LogOptions::new(dir);
    options.defaults.retention_ms = None;
    Log::open(options, Arc::new(RecordBatches)).expect("any segment is opened").0
}

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path());
    log.create("t", 1, log.defaults().clone(), Default::default()).expect("a topic");
    log.close().expect("closed");
    drop(log);
    // Half of the bytes are made a batch that is right, so that the search gets past the first
    // checksum.
    let (mut bytes, rest) = match data.split_first() {
        Some((first, rest)) if first & 1 == 1 => {
            let (key, rest) = rest.split_at(usize::from(*first).min(rest.len()));
            (batch::encode(&[(key, Some(key))], 1), rest)
        }
        _ => (Vec::new(), data),
    };
    bytes.extend_from_slice(rest);
    std::fs::write(dir.path().join("topics/t/0/00000000000000000000.seg"), &bytes).expect("written");
    let mut ends = Vec::new();
    for _ in 0..2 {
        let log = open(dir.path());
        let partition = log.topic("t").and_then(|t| t.partition(0)).expect("the partition");
        let (start, end) = partition.bounds();
        for offset in start..end.min(start + 64) {
            let slice = partition.read(offset, 1, true).expect("readable").expect("there");
            let mut batch = vec![0; slice.len];
            slice.read(&mut batch).expect("read");
            let view = RecordBatches.view(&batch).expect("a batch");
            assert!(RecordBatches.intact(&batch) && view.base <= offset && offset < view.next());
            let _ = RecordBatches.keys(&batch, &mut |_, _, _| {});
            let _ = RecordBatches.retain(&batch, &mut |o| o % 2 == 0);
        }
        let _ = partition.find_time(0);
        ends.push(end);
        log.close().expect("closed");
    }
    assert_eq!(ends[0], ends[1]);
    let log = open(dir.path());
    let partition = log.topic("t").and_then(|t| t.partition(0)).expect("the partition");
    assert_eq!(partition.append(&batch::encode(&[(b"k", None)], 1)).expect("appended").base, ends[0]);
    // Otherwise its threads live on for a while.
    log.close().expect("closed");
});
