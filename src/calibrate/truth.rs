//! What is true: closed formulas, and what the log of the faults says really happened.

use serde::Deserialize;

use crate::units::{Nanos, SECOND};

/// One line of the log of faults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FaultEvent {
    /// When it was over.
    pub at: Nanos,
    pub event: String,
    /// Number of the message.
    pub n: u64,
    /// When the broker got it.
    pub arrived: Nanos,
    /// When it began, where it took time.
    #[serde(default)]
    pub from: Nanos,
    /// How long it really took.
    #[serde(default)]
    pub ns: Nanos,
    /// Of that, what the host added.
    #[serde(default)]
    pub late: Nanos,
    /// The first bytes of the payload, in hexadecimal.
    pub head: String,
}

impl FaultEvent {
    /// When the message was due: bytes 20 to 28 of its envelope.
    pub fn intended(&self) -> Option<Nanos> {
        let digits = self.head.get(40..56)?;
        let mut bytes = [0u8; 8];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok()?;
        }
        Some(Nanos::from_le_bytes(bytes))
    }
}

/// Reads a log of faults; a line that is none makes all of it worthless, so that it is not half
/// believed.
///
/// # Errors
/// Number and text of the line that is wrong.
pub fn read(log: &[u8]) -> Result<Vec<FaultEvent>, String> {
    let text = String::from_utf8_lossy(log);
    let line = |(i, line): (usize, &str)| serde_json::from_str(line).map_err(|e| format!("line {}: {e}", i + 1));
    text.lines().enumerate().map(line).collect()
}

/// The quantile of response latency, ns, under constant arrivals, with one stall of length `stall`
/// in a run of length `run` at a load `rho` (stats.md C2): q = base + stall - (1 - rho) run (1 - p)
/// above the knee, and `base` below it.
pub fn stalled(base: f64, stall: f64, run: f64, rho: f64, p: f64) -> f64 {
    base + (stall - (1.0 - rho) * run * (1.0 - p)).max(0.0)
}

/// The quantiles at which the queues are judged.
pub const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// Exact quantiles of the time in an M/D/1 system in units of the service time, and their relative
/// standard deviation in a run of one million messages (stats.md C3).
pub struct ExactQueue {
    /// Load.
    pub rho: f64,
    /// At [`QUANTILES`].
    pub quantiles: [f64; 4],
    /// At [`QUANTILES`].
    pub sigma: [f64; 4],
    /// The relative standard deviation of the mean in such a run.
    pub mean_sigma: f64,
}

/// M/D/1 at load 0.5.
pub const MD1_HALF: ExactQueue = ExactQueue {
    rho: 0.5,
    quantiles: [1.0, 2.5157448, 4.3362560, 6.1683850],
    sigma: [0.0015, 0.002, 0.004, 0.009],
    mean_sigma: 0.001,
};

/// M/D/1 at load 0.8.
pub const MD1_EIGHTY: ExactQueue = ExactQueue {
    rho: 0.8,
    quantiles: [2.2759399, 6.0115115, 11.355887, 16.700268],
    sigma: [0.004, 0.007, 0.018, 0.035],
    mean_sigma: 0.005,
};

/// M/M/1 at load 0.5: -ln(1 - p) / (1 - rho).
pub fn mm1_half() -> ExactQueue {
    let quantiles = QUANTILES.map(|p| -(1.0 - p).ln() / 0.5);
    ExactQueue { rho: 0.5, quantiles, sigma: [0.003, 0.004, 0.009, 0.017], mean_sigma: 0.004 }
}

/// Times in system, ns, counted from the instant each message was due, of a single server with
/// these arrivals, due instants and service times (Lindley's recursion); sorted.
pub fn lindley(messages: impl Iterator<Item = (Nanos, Nanos, Nanos)>) -> Vec<Nanos> {
    let mut free = 0;
    let mut all: Vec<Nanos> = messages
        .map(|(due, arrived, service)| {
            free = free.max(arrived) + service;
            free.saturating_sub(due)
        })
        .collect();
    all.sort_unstable();
    all
}

/// The value at a quantile of sorted values, by nearest rank.
pub fn rank(sorted: &[Nanos], p: f64) -> Option<Nanos> {
    let n = sorted.len();
    sorted.get(((p * n as f64).ceil() as usize).clamp(1, n.max(1)) - 1).copied()
}

/// Mean time in an M/G/1 system, ns, from the mean and the mean square of the real service times
/// (Pollaczek and Khinchine): E[S] + lambda E[S^2] / (2 (1 - rho)).
pub fn pollaczek_khinchine(per_second: f64, service: &[Nanos]) -> f64 {
    let n = service.len().max(1) as f64;
    let lambda = per_second / SECOND as f64;
    let mean = service.iter().map(|s| *s as f64).sum::<f64>() / n;
    let square = service.iter().map(|s| (*s as f64).powi(2)).sum::<f64>() / n;
    mean + lambda * square / (2.0 * (1.0 - lambda * mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stall_agrees_with_the_table_of_stats_md() {
        let ms = 1e6;
        // lambda 1000/s, s = 500 us, T = 10 s, S = 100 ms.
        for (p, expected) in [(0.99, 50.5), (0.995, 75.5), (0.999, 95.5), (0.9999, 100.0)] {
            let q = stalled(0.5 * ms, 100.0 * ms, 10_000.0 * ms, 0.5, p);
            assert!((q / ms - expected).abs() < 1e-6, "{p}: {q}");
        }
        assert_eq!(stalled(0.1 * ms, 100.0 * ms, 10_000.0 * ms, 0.0, 0.5), 0.1 * ms);
    }

    #[test]
    fn exponential_service_has_its_table() {
        let expected = [1.3863, 4.6052, 9.2103, 13.8155];
        assert!(mm1_half().quantiles.iter().zip(expected).all(|(q, e)| (q - e).abs() < 1e-4));
    }

    #[test]
    fn a_queue_is_worked_off_in_order() {
        // Due, arrived, service: the second waits for the first, the third does not.
        let all = lindley([(0, 1, 10), (2, 3, 10), (100, 100, 5)].into_iter());
        assert_eq!(all, [5, 11, 19]);
        assert_eq!((rank(&all, 0.5), rank(&all, 0.99), rank(&[], 0.5)), (Some(11), Some(19), None));
    }

    #[test]
    fn fixed_service_has_the_mean_of_m_d_1() {
        let mean = pollaczek_khinchine(500.0, &[1_000_000; 10]);
        assert!((mean / 1.5e6 - 1.0).abs() < 1e-9, "{mean}");
    }

    #[test]
    fn a_log_is_read_and_a_broken_one_is_not() {
        let head = format!("{}{}", "00".repeat(20), "0102000000000000");
        let line = format!(r#"{{"at":9,"event":"drop","n":7,"arrived":8,"subject":"a","head":"{head}"}}"#);
        let log = read(format!("{line}\n{line}\n").as_bytes()).unwrap();
        assert_eq!((log.len(), log[0].n, log[0].intended()), (2, 7, Some(0x0201)));
        assert_eq!(FaultEvent { head: "00".into(), ..log[0].clone() }.intended(), None);
        assert!(read(format!("{line}\n{{\"at\":").as_bytes()).unwrap_err().starts_with("line 2"));
    }
}
