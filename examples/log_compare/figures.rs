//! Medians and how they are shown.

/// How often each figure is measured.
pub fn repeats() -> usize {
    std::env::var("MSGBENCH_BENCH_REPEATS").ok().and_then(|n| n.parse().ok()).unwrap_or(5)
}

/// The values of one figure of one system.
#[derive(Default)]
pub struct Figure(Vec<f64>);

impl Figure {
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    pub fn median(&self) -> f64 {
        match self.0.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => self.0[n / 2],
            n => (self.0[n / 2 - 1] + self.0[n / 2]) / 2.0,
        }
    }

    /// Median and range, in thousands where that is shorter.
    pub fn shown(&self) -> String {
        match (self.0.first(), self.0.last()) {
            (Some(least), Some(most)) => {
                format!("{} ({} to {})", short(self.median()), short(*least), short(*most))
            }
            _ => "not measured".to_owned(),
        }
    }
}

/// Three digits, with k or M where that is shorter.
pub fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        v if v >= 1e6 => (value / 1e6, " M"),
        v if v >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{unit}")
}

/// The value below which `share` of the sorted values are.
pub fn quantile(values: &mut [u64], share: f64) -> f64 {
    values.sort_unstable();
    let at = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    values.get(at).map_or(f64::NAN, |v| *v as f64)
}
