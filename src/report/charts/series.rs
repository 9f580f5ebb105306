//! What a page draws over time, beside the record: the intervals of a result, and its interval
//! logs.

use crate::record::{Interval, Trial};

/// The time series of one result. The report itself opens no file: `read` does, and says `None` for
/// one that is not there.
#[derive(Clone, Copy)]
pub struct RunSeries<'a> {
    /// `intervals.csv`; empty where there is none.
    pub intervals: &'a [Interval],
    /// The bytes of a file that the record names.
    pub read: &'a dyn Fn(&str) -> Option<Vec<u8>>,
}

impl std::fmt::Debug for RunSeries<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Series").field("intervals", &self.intervals.len()).finish_non_exhaustive()
    }
}

impl<'a> RunSeries<'a> {
    /// The intervals of one workload of a trial, in order.
    pub fn of(&self, trial: &Trial, workload: &str) -> Vec<&'a Interval> {
        let mine = |i: &&Interval| i.case == trial.case && i.round == trial.round && i.workload == workload;
        self.intervals.iter().filter(mine).collect()
    }
}
