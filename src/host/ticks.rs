//! What the kernel counts of all processors.

/// (steal, total) CPU time of the whole host in ticks since it booted, from `/proc/stat`: what the
/// hypervisor gave to others, and all.
///
/// The first line (proc_stat(5)). Guest time is part of user time there and not added again. `None`
/// where the kernel does not say.
pub(super) fn steal_of(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal
    let ticks: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    Some((*ticks.get(7)?, ticks.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_of_eight() {
        assert_eq!(steal_of("cpu  1 2 3 4 5 6 7 8 100 200\ncpu0 9 9 9 9 9 9 9 9 0 0\n"), Some((8, 36)));
        assert_eq!(steal_of("cpu  1 2 3 4\n"), None);
        assert_eq!(steal_of(""), None);
    }
}
