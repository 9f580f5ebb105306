//! The loads of a search.

/// The loads that may be tried, ascending, neighbours at most the width apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder {
    pub(super) loads: Vec<f64>,
    /// Steps that double the load, at least one.
    pub(super) doubling: usize,
    pub(super) start: usize,
}

/// Three significant digits. By way of its text: a product with a power of ten may be the neighbour
/// of the number that these digits mean, and is shown with seventeen.
fn rounded(load: f64) -> f64 {
    format!("{load:.2e}").parse().unwrap_or(load)
}

impl Ladder {
    /// Loads from `min` to `max` of which neighbours differ by at most `width` (0.05 is 5 %), those
    /// between the two ends with three significant digits; a power of two of steps doubles the
    /// load, so that bisection comes out even. `start` is the load that is tried first.
    pub fn rates(min: f64, max: f64, start: f64, width: f64) -> Self {
        let wanted = std::f64::consts::LN_2 / (1.0 + width).ln();
        let doubling = (wanted.ceil() as usize).next_power_of_two();
        let mut loads: Vec<f64> = Vec::new();
        let mut k = 0;
        loop {
            let load = rounded(min * 2f64.powf(k as f64 / doubling as f64));
            // The lowest is the one that was asked for: rounded it may be below.
            let load = if k == 0 { min } else { load };
            if load >= max {
                break;
            }
            if loads.last().is_none_or(|last| load > *last) {
                loads.push(load);
            }
            k += 1;
        }
        loads.push(max);
        Self::of(loads, doubling, start)
    }

    /// So many loads that the user has listed, ascending: the load of a step is its number from 0.
    pub fn listed(count: usize, start: usize) -> Self {
        Self::of((0..count).map(|n| n as f64).collect(), 1, start as f64)
    }

    fn of(loads: Vec<f64>, doubling: usize, start: f64) -> Self {
        let start = loads.iter().rposition(|l| *l <= start).unwrap_or(0);
        Self { loads, doubling, start }
    }

    /// The step of twice the load, or of half of it; of listed loads the next.
    pub(super) fn doubled(&self, from: usize, up: bool) -> usize {
        let last = self.loads.len() - 1;
        if up { (from + self.doubling).min(last) } else { from.saturating_sub(self.doubling) }
    }
}
