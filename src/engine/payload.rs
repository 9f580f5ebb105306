//! Makes the messages of a workload: a pool of templates with the sizes and contents of the plan, in seeded order.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};

use crate::load::message::{ENVELOPE, Template};
use crate::scenario::payload::read_messages;
use crate::scenario::plan::{Content, Payload, PayloadSize};

/// The pool takes about so many bytes for each producer.
const POOL: usize = 4 << 20;
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

/// The messages of one producer, to be sent in turn.
///
/// # Errors
/// When a file of the payload cannot be read; the text names it.
pub fn templates(payload: &Payload, seed: u64) -> Result<Vec<Template>, String> {
    if let Content::File { path, .. } = &payload.content {
        return real(Path::new(path)).map_err(|e| format!("cannot read the payload {path}: {e}"));
    }
    let mut random = StdRng::seed_from_u64(seed);
    let count = (POOL / payload.size.largest().0.max(1) as usize).clamp(4, 1024);
    Ok((0..count).map(|_| Template::new(&body(payload, &mut random))).collect())
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

fn real(path: &Path) -> std::io::Result<Vec<Template>> {
    Ok(read_messages(path)?.iter().map(|body| Template::new(body)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    fn sizes(size: PayloadSize, content: Content) -> Vec<usize> {
        templates(&Payload { size, content }, 1).unwrap().iter().map(Template::len).collect()
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
        let error = templates(&Payload { size: PayloadSize::Fixed(Bytes(0)), content: missing }, 1).unwrap_err();
        assert!(error.contains("/nonexistent/x"), "{error}");
    }
}
