//! Makes the messages of a workload: a pool of templates with the sizes and contents of the plan,
//! in seeded order.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};

use crate::load::message::{ENVELOPE, Template};
use crate::load::schedule::ScheduleShare;
use crate::plan::messages::read_messages;
use crate::plan::{Content, Payload, PayloadSize};

/// The pool of a producer takes about so many bytes.
const POOL: usize = 4 << 20;
/// The pools of all producers of a workload take about so many bytes, unless one message of each
/// takes more.
const ALL: usize = 64 << 20;
/// Messages of a pool at most.
const MOST: usize = 1024;
/// Messages of a pool at least, where there is room: one alone has but one size.
const LEAST: usize = 4;
const WORDS: &[&str] = &[
    "order",
    "shipped",
    "customer",
    "warehouse",
    "pending",
    "invoice",
    "total",
    "item",
    "quantity",
    "the",
    "of",
    "and",
    "to",
    "status",
    "delivered",
    "payment",
    "account",
    "region",
    "north",
    "south",
    "event",
    "time",
    "price",
    "service",
    "update",
];

/// The messages of one producer of a workload, to be sent in turn.
///
/// # Errors
/// When a file of the payload cannot be read; the text names it.
pub fn templates(payload: &Payload, seed: u64, share: ScheduleShare) -> Result<Vec<Template>, String> {
    if let Content::File { path, .. } = &payload.content {
        return real(Path::new(path), share).map_err(|e| format!("cannot read the payload {path}: {e}"));
    }
    let mut random = StdRng::seed_from_u64(seed);
    let room = POOL.min(ALL / share.of.max(1) as usize);
    let least = (room / payload.size.largest().0.max(1) as usize).clamp(1, LEAST);
    let least = if room == POOL { LEAST } else { least };
    let (mut all, mut bytes) = (Vec::new(), 0);
    while all.len() < least || (bytes < room && all.len() < MOST) {
        let message = Template::new(&body(payload, &mut random));
        bytes += message.len();
        // What would exceed the room is not begun where sizes are equal.
        if bytes > room && all.len() >= least {
            break;
        }
        all.push(message);
    }
    Ok(all)
}

/// The same without envelopes, each of the size that is asked for.
///
/// # Errors
/// As [`templates`].
pub fn bare_templates(payload: &Payload, seed: u64, share: ScheduleShare) -> Result<Vec<Template>, String> {
    let enveloped = Payload { size: payload.size.map(|size| size + ENVELOPE as u64), ..payload.clone() };
    Ok(templates(&enveloped, seed, share)?.into_iter().map(Template::bare).collect())
}

fn body(payload: &Payload, random: &mut StdRng) -> Vec<u8> {
    let size = match payload.size {
        PayloadSize::Fixed(size) => size.0,
        PayloadSize::Uniform { min, max } => random.random_range(min.0..=max.0),
        PayloadSize::LogNormal { median, p99, max } => {
            // The 99th percentile of a standard normal is 2.326348 sigma.
            let (mu, sigma) = ((median.0 as f64).ln(), (p99.0 as f64 / median.0 as f64).ln() / 2.326_348);
            let drawn = LogNormal::new(mu, sigma).map_or(median.0 as f64, |d| d.sample(random));
            let drawn = drawn.max(ENVELOPE as f64);
            (drawn.round() as u64).min(max.0)
        }
    };
    let mut body = vec![0u8; (size as usize).saturating_sub(ENVELOPE)];
    match payload.content {
        Content::Random => random.fill_bytes(&mut body),
        Content::Zero | Content::File { .. } => {}
        Content::Text => {
            let mut text = Vec::with_capacity(body.len() + 16);
            while text.len() < body.len() {
                text.extend_from_slice(WORDS[random.random_range(0..WORDS.len())].as_bytes());
                text.push(b' ');
            }
            text.truncate(body.len());
            body = text;
        }
    }
    body
}

/// The messages of a file: all of them, or every n-th, so that all producers together have each and
/// need no more than their room.
fn real(path: &Path, share: ScheduleShare) -> std::io::Result<Vec<Template>> {
    let messages = read_messages(path)?;
    let bytes: usize = messages.iter().map(|body| body.len() + ENVELOPE).sum();
    let step = (bytes * share.of.max(1) as usize)
        .div_ceil(ALL)
        .clamp(1, (share.of.max(1) as usize).min(messages.len().max(1)));
    let first = share.index as usize % step;
    Ok(messages.iter().skip(first).step_by(step).map(|body| Template::new(body)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    const ALONE: ScheduleShare = ScheduleShare { index: 0, of: 1 };

    fn sizes(size: PayloadSize, content: Content) -> Vec<usize> {
        templates(&Payload { size, content }, 1, ALONE).unwrap().iter().map(Template::len).collect()
    }

    #[test]
    fn sizes_follow_their_distribution() {
        assert!(sizes(PayloadSize::Fixed(Bytes(128)), Content::Random).iter().all(|s| *s == 128));
        let uniform = sizes(PayloadSize::Uniform { min: Bytes(100), max: Bytes(200) }, Content::Zero);
        assert!(uniform.iter().all(|s| (100..=200).contains(s)) && uniform.iter().any(|s| *s != uniform[0]));
        let mut skewed =
            sizes(PayloadSize::LogNormal { median: Bytes(1000), p99: Bytes(4000), max: Bytes(3900) }, Content::Text);
        skewed.sort_unstable();
        assert!((800..1250).contains(&skewed[skewed.len() / 2]));
        assert!(*skewed.last().unwrap() <= 3900);
    }

    #[test]
    fn lines_of_a_file_become_messages() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.jsonl");
        std::fs::write(&file, "{\"a\":1}\r\n\n{\"bb\":2}\n").unwrap();
        let content = Content::File { path: file.to_string_lossy().into(), sha256: String::new(), messages: 2 };
        assert_eq!(sizes(PayloadSize::Fixed(Bytes(0)), content), [ENVELOPE + 7, ENVELOPE + 8]);
        let missing = Content::File { path: "/nonexistent/x".into(), sha256: String::new(), messages: 0 };
        let error = templates(&Payload { size: PayloadSize::Fixed(Bytes(0)), content: missing }, 1, ALONE).unwrap_err();
        assert!(error.contains("/nonexistent/x"), "{error}");
    }

    /// 300 producers with messages of 4 KiB took 1.27 GB.
    #[test]
    fn many_producers_share_the_room_of_their_messages() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.jsonl");
        std::fs::write(&file, (0..1000).map(|i| format!("{i:04}{}\n", "x".repeat(4000))).collect::<String>()).unwrap();
        let of_file = Content::File { path: file.to_string_lossy().into(), sha256: String::new(), messages: 1000 };
        let skewed = PayloadSize::LogNormal { median: Bytes(2000), p99: Bytes(20_000), max: Bytes(100_000) };
        for (size, content) in [
            (PayloadSize::Fixed(Bytes(4096)), Content::Random),
            (PayloadSize::Fixed(Bytes(100)), Content::Random),
            (PayloadSize::Fixed(Bytes(1 << 20)), Content::Zero),
            (skewed, Content::Random),
            (PayloadSize::Fixed(Bytes(0)), of_file),
        ] {
            let payload = Payload { size, content };
            let largest = size.largest().0 as usize;
            for of in [1, 16, 60] {
                let pools: Vec<Vec<Template>> =
                    (0..of).map(|index| templates(&payload, 1, ScheduleShare { index, of }).unwrap()).collect();
                let bytes: usize = pools.iter().flatten().map(Template::len).sum();
                assert!(pools.iter().all(|p| !p.is_empty()), "{payload:?} {of}");
                assert!(bytes <= (ALL + ALL / 2).max(of as usize * largest), "{payload:?}, {of}: {bytes} bytes");
                if of == 60 && matches!(payload.content, Content::File { .. }) {
                    let mut all: Vec<Vec<u8>> =
                        pools.into_iter().flatten().map(|mut t| t.stamp(&NOBODY)[ENVELOPE..].to_vec()).collect();
                    all.sort();
                    all.dedup();
                    assert_eq!(all.len(), 1000, "all producers together have every message");
                }
            }
        }
    }

    const NOBODY: crate::load::message::Envelope =
        crate::load::message::Envelope { run: 0, producer: 0, sequence: 0, intended: 0, sent: 0 };
}
