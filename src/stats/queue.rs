//! Closed forms of queues and of an injected stall: the truth that calibration compares with.

/// Quantile of the time in an M/M/1 system in units of the mean service time: -ln(1 - p) / (1 -
/// rho). Source: L. Kleinrock, "Queueing Systems" vol. 1 (1975), 5.
pub fn mm1_sojourn(rho: f64, p: f64) -> f64 {
    -(-p).ln_1p() / (1.0 - rho)
}

/// Mean time in an M/G/1 system in units of the mean service time, with `scv` the squared
/// coefficient of variation of service: 1 + rho (1 + scv) / (2 (1 - rho)). Source: Pollaczek and
/// Khinchine; Kleinrock, 5.6.
pub fn mg1_mean_sojourn(rho: f64, scv: f64) -> f64 {
    1.0 + rho * (1.0 + scv) / (2.0 * (1.0 - rho))
}

/// Stationary probabilities of 0 ..= top messages in an M/D/1 system, by the recursion over flows
/// across a cut, which only adds: p_j a_0 = p_0 P(A > j-1) + sum_{i<j} p_i P(A > j-i), A ~
/// Poisson(rho). Source: V. Ramaswami, "A stable recursion for the steady state vector in Markov
/// chains of M/G/1 type" (1988).
fn md1_occupancy(rho: f64, top: usize) -> Vec<f64> {
    let term = |l: usize| (1..=l).fold((-rho).exp(), |t, i| t * rho / i as f64);
    let above: Vec<f64> = (0..=top)
        .map(|k| {
            let (mut t, mut sum, mut l) = (term(k + 1), 0.0, k + 1);
            while t > sum * 1e-18 {
                sum += t;
                l += 1;
                t *= rho / l as f64;
            }
            sum
        })
        .collect();
    let mut p = vec![1.0 - rho];
    for j in 1..=top {
        let flow: f64 = p[0] * above[j - 1] + (1..j).map(|i| p[i] * above[j - i]).sum::<f64>();
        p.push(flow / (-rho).exp());
    }
    p
}

/// P(waiting <= x) in an M/D/1 queue, x in units of the service time, without the cancellation of
/// Erlang's alternating sum: exp(-u) sum_{j<k} Q_(k-1-j) u^j / j!, k = floor(x) + 1, u = rho (k -
/// x), Q the cumulated queue lengths. Source: G. J. Franx, "A simple solution for the M/D/c waiting
/// time distribution", Oper. Res. Letters 29 (2001).
pub fn md1_waiting_cdf(rho: f64, x: f64) -> f64 {
    if x < 0.0 {
        return 0.0;
    }
    let k = x.floor() as usize + 1;
    let occupancy = md1_occupancy(rho, k);
    // Nobody waits with none or one in the system.
    let mut cumulated = Vec::with_capacity(k);
    let mut sum = occupancy[0];
    for p in &occupancy[1..=k] {
        sum += p;
        cumulated.push(sum);
    }
    let u = rho * (k as f64 - x);
    let mut term = (-u).exp();
    let mut total = 0.0;
    for j in 0..k {
        total += term * cumulated[k - 1 - j];
        term *= u / (j + 1) as f64;
    }
    total
}

/// Quantile of the time in an M/D/1 system in units of the service time, by bisection.
pub fn md1_sojourn(rho: f64, p: f64) -> f64 {
    if md1_waiting_cdf(rho, 0.0) >= p {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while md1_waiting_cdf(rho, high) < p && high < 1e4 {
        high *= 2.0;
    }
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if md1_waiting_cdf(rho, middle) < p { low = middle } else { high = middle }
    }
    1.0 + high
}

/// A server that stops once: constant arrivals at `rate` per second, each served in `service`
/// seconds, measured for `length` seconds, one freeze of `stall` seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StallModel {
    /// Messages per second.
    pub rate: f64,
    /// Seconds of service for each.
    pub service: f64,
    /// Seconds of measurement.
    pub length: f64,
    /// Seconds of the freeze.
    pub stall: f64,
}

impl StallModel {
    /// The response latency at a quantile, seconds: `service` where 1 - p >= S / ((1-rho) T), else
    /// s + S - (1-rho) T (1-p). Source: stats.md C2, equal to a simulation to 1 us.
    pub fn latency(&self, p: f64) -> f64 {
        let idle = 1.0 - self.rate * self.service;
        if 1.0 - p >= self.stall / (idle * self.length) {
            return self.service;
        }
        self.service + self.stall - idle * self.length * (1.0 - p)
    }
    /// The largest latency: s + S.
    pub fn max(&self) -> f64 {
        self.service + self.stall
    }
}
