//! What a duration, a rate and a count may be.

use crate::plan::problem::Problem;
use crate::units::{Rate, Span};

const DAY: Span = Span::secs(24 * 3600);
const MAX_RATE: Rate = Rate(1e8);

pub(super) fn check_span(path: &str, span: Span, may_be_zero: bool) -> Result<(), Problem> {
    if span.0 == 0 && !may_be_zero {
        return Err(Problem::new(path, "the duration is zero").hint("write a duration such as \"10s\""));
    }
    if span > DAY {
        return Err(Problem::new(path, format!("{span} is longer than a day")));
    }
    Ok(())
}

pub(super) fn check_rate(path: &str, rate: Rate, may_be_zero: bool) -> Result<(), Problem> {
    if rate.0 <= 0.0 && !may_be_zero {
        return Err(Problem::new(path, "the rate is zero, so no message would be sent")
            .hint("write messages per second, such as \"1k/s\""));
    }
    if !rate.0.is_finite() || rate > MAX_RATE {
        return Err(Problem::new(path, format!("the rate is above {MAX_RATE}")));
    }
    Ok(())
}

pub(super) fn check_count(path: &str, count: u32, max: u32) -> Result<(), Problem> {
    match count {
        0 => Err(Problem::new(path, "must be at least 1")),
        n if n > max => Err(Problem::new(path, format!("{n} is more than the {max} supported"))),
        _ => Ok(()),
    }
}
