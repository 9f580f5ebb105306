//! How far the copy of a stream is behind, by what the server says of it.
//!
//! The time that a copy costs is in the latency of those who read it. The count is asked for from
//! the start of the measured phase on, and noted where it has doubled, so that a lag that grows is
//! seen on the timeline and a steady one is noted once.

use std::time::Duration;

use serde_json::Value;
use tokio::task::AbortHandle;

use super::api::call;
use super::domain::ApiRoot;
use crate::driver::Incident;
use crate::driver::nats::link::NatsLink;
use crate::units::{Nanos, now};

/// How often it is asked.
const EVERY: Duration = Duration::from_millis(250);
/// A lag below is noted once; the server counts what is on its way, too.
const SMALL: u64 = 64;

/// Follows the stream of this name until it is told to stop.
pub fn follow(link: NatsLink, (name, api): (String, ApiRoot), origin: Nanos) -> AbortHandle {
    let task = async move {
        tokio::time::sleep(Duration::from_nanos(origin.saturating_sub(now()))).await;
        let mut noted = None;
        loop {
            tokio::time::sleep(EVERY).await;
            // An answer that did not come is no lag; what else it means others find out.
            let verb = format!("STREAM.INFO.{name}");
            let Ok(info) = call(&link, &api, "look at the copy", &verb, &Value::Null).await else {
                continue;
            };
            let Some(lag) = lag(&info) else { continue };
            if noted.is_none_or(|before: u64| lag >= SMALL && lag >= 2 * before) {
                noted = Some(lag.max(SMALL / 2));
                link.incidents.note(Incident::Other, format!("{name} is {lag} messages behind"));
            }
        }
    };
    tokio::spawn(task).abort_handle()
}

/// Messages that a copy is behind, where the stream is one.
fn lag(info: &Value) -> Option<u64> {
    let of = |origin: &Value| origin["lag"].as_u64();
    of(&info["mirror"]).or_else(|| info["sources"].as_array()?.iter().filter_map(of).max())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_lag_is_that_of_the_slowest_origin() {
        assert_eq!(lag(&json!({ "mirror": { "name": "a", "lag": 7 } })), Some(7));
        assert_eq!(lag(&json!({ "sources": [{ "lag": 3 }, { "lag": 9 }] })), Some(9));
        assert_eq!(lag(&json!({ "state": {} })), None);
    }
}
