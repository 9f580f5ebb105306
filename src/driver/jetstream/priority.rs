//! Priority groups of pull consumers (ADR-42 of the NATS project): which client of a group is
//! served first.

use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::Value;

use super::options::{AckMode, ConsumeMode, JetstreamOptions, PriorityPolicy};
use crate::units::Span;

/// A consumer has one group: nats-server 2.15 uses the first one alone.
const GROUP: &str = "msgbench";
/// The server takes shorter ones, but a client that is not scheduled for that long loses its pin.
const MIN_TIMEOUT: Span = Span::millis(500);
const MAX_TIMEOUT: Span = Span::secs(600);
/// Highest number of a client, which is served last, by the server's own limit.
const LAST: u32 = 9;
/// What the server does where nothing is said.
const DEFAULT_TIMEOUT: Span = Span::secs(120);

impl JetstreamOptions {
    /// Whether the options of priority groups fit together.
    ///
    /// # Errors
    /// The option that does not fit, and what is allowed.
    pub fn check_priority(&self) -> Result<(), String> {
        let bounds = [("min-pending", self.min_pending), ("min-ack-pending", self.min_ack_pending)];
        let policy = self.priority_policy;
        if policy.is_some() && !matches!(self.consumer(), ConsumeMode::Pull | ConsumeMode::Fetch) {
            return Err("option `priority-policy`: only those who ask have a priority; use consumer = pull".into());
        }
        if self.priority_timeout.is_some() && policy != Some(PriorityPolicy::PinnedClient) {
            return Err("option `priority-timeout`: is for priority-policy = pinned-client; remove it".into());
        }
        if self.priority_timeout.is_some_and(|span| !(MIN_TIMEOUT..=MAX_TIMEOUT).contains(&span)) {
            return Err(format!("option `priority-timeout`: must be between {MIN_TIMEOUT} and {MAX_TIMEOUT}"));
        }
        for (name, bound) in bounds {
            if bound.is_some() && policy != Some(PriorityPolicy::Overflow) {
                return Err(format!("option `{name}`: is for priority-policy = overflow; remove it"));
            }
            if bound == Some(0) {
                return Err(format!("option `{name}`: must be at least 1"));
            }
        }
        if policy == Some(PriorityPolicy::Overflow) && bounds.iter().all(|(_, bound)| bound.is_none()) {
            return Err("option `priority-policy`: overflow needs `min-pending` or `min-ack-pending`".into());
        }
        if self.min_ack_pending.is_some() && self.ack() == AckMode::None {
            return Err("option `min-ack-pending`: nothing is unacknowledged with ack = none; use explicit".into());
        }
        Ok(())
    }

    /// The fields of a consumer's configuration.
    pub fn set_priority(&self, mut set: impl FnMut(&str, Value)) {
        let Some(policy) = self.priority_policy else { return };
        set("priority_groups", vec![GROUP].into());
        match policy {
            PriorityPolicy::Overflow => set("priority_policy", "overflow".into()),
            PriorityPolicy::PinnedClient => {
                set("priority_policy", "pinned_client".into());
                set("priority_timeout", self.pinned_for().0.into());
            }
            PriorityPolicy::Prioritized => set("priority_policy", "prioritized".into()),
        }
    }

    fn pinned_for(&self) -> Span {
        self.priority_timeout.unwrap_or(DEFAULT_TIMEOUT)
    }
}

/// What the pulls of one client say about its priority.
#[derive(Debug)]
pub struct PullPriority {
    policy: PriorityPolicy,
    /// It is served only when so many messages wait, or are unacknowledged; 0 is no such bound.
    min_pending: u64,
    min_ack_pending: u64,
    /// With "prioritized": who has a lower number and waits is served before it.
    rank: u32,
    /// What the server called it when it was pinned.
    pin: Option<String>,
    timeout: Duration,
}

impl PullPriority {
    /// That of client `index` of a group.
    pub fn of(options: &JetstreamOptions, index: u32) -> Option<Self> {
        let policy = options.priority_policy?;
        let bound = |bound: Option<u64>| if index == 0 { 0 } else { bound.unwrap_or(0) };
        Some(Self {
            policy,
            min_pending: bound(options.min_pending),
            min_ack_pending: bound(options.min_ack_pending),
            rank: index.min(LAST),
            pin: None,
            timeout: options.pinned_for().duration(),
        })
    }

    /// How long a pull may be open. The server counts the time of a pin from the last pull, so that
    /// a pinned client asks twice in it.
    pub fn expires(&self, longest: Duration) -> Duration {
        match self.policy {
            PriorityPolicy::Overflow | PriorityPolicy::Prioritized => longest,
            PriorityPolicy::PinnedClient => longest.min(self.timeout / 2),
        }
    }

    /// What a pull has in addition, a comma before each field.
    pub fn fields(&self) -> String {
        let mut fields = format!(",\"group\":\"{GROUP}\"");
        for (key, bound) in [("min_pending", self.min_pending), ("min_ack_pending", self.min_ack_pending)] {
            if bound > 0 {
                fields += &format!(",\"{key}\":{bound}");
            }
        }
        if self.policy == PriorityPolicy::Prioritized {
            fields += &format!(",\"priority\":{}", self.rank);
        }
        if let Some(pin) = &self.pin {
            fields += &format!(",\"id\":\"{pin}\"");
        }
        fields
    }

    /// Reads the pin of a message; whether it is a new one.
    #[inline]
    pub fn pinned(&mut self, headers: Option<&HeaderMap>) -> bool {
        if self.policy != PriorityPolicy::PinnedClient {
            return false;
        }
        // One that was published comes before the server's.
        let Some(pin) = headers.and_then(|h| h.get_last("Nats-Pin-Id")).map(|v| v.as_str()) else { return false };
        // It stands in a request as it is.
        let plain = pin.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain || self.pin.as_deref() == Some(pin) {
            return false;
        }
        self.pin = Some(pin.to_owned());
        true
    }

    /// The server does not know the pin any more; whether there was one. The other pulls that named
    /// it are refused as well, one by one.
    pub fn unpinned(&mut self) -> bool {
        self.pin.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<JetstreamOptions, String> {
        JetstreamOptions::from_options(value.as_object().unwrap())
    }

    #[test]
    fn pulls_say_what_the_policy_needs() {
        let pinned = read(&json!({ "priority-policy": "pinned-client", "priority-timeout": "4s" })).unwrap();
        let mut pull = PullPriority::of(&pinned, 1).unwrap();
        assert_eq!(pull.expires(Duration::from_secs(30)), Duration::from_secs(2));
        assert_eq!(pull.fields(), ",\"group\":\"msgbench\"");
        let mut headers = HeaderMap::new();
        headers.append("Nats-Pin-Id", "\",\"id\":\"published");
        assert!(!pull.pinned(Some(&headers)));
        headers.append("Nats-Pin-Id", "abc");
        assert!(!pull.pinned(None) && pull.pinned(Some(&headers)) && !pull.pinned(Some(&headers)));
        assert_eq!(pull.fields(), ",\"group\":\"msgbench\",\"id\":\"abc\"");
        assert!(pull.unpinned() && !pull.unpinned());
        assert_eq!(pull.fields(), ",\"group\":\"msgbench\"");

        let bounds = json!({ "priority-policy": "overflow", "min-pending": 7, "min-ack-pending": 3 });
        let overflow = read(&bounds).unwrap();
        let fields = |index| PullPriority::of(&overflow, index).unwrap().fields();
        assert_eq!(fields(0), ",\"group\":\"msgbench\"");
        assert_eq!(fields(1), ",\"group\":\"msgbench\",\"min_pending\":7,\"min_ack_pending\":3");
        assert!(PullPriority::of(&JetstreamOptions::default(), 0).is_none());

        let ranked = read(&json!({ "priority-policy": "prioritized" })).unwrap();
        for (index, rank) in [(0, 0), (9, 9), (40, 9)] {
            let fields = PullPriority::of(&ranked, index).unwrap().fields();
            assert_eq!(fields, format!(",\"group\":\"msgbench\",\"priority\":{rank}"));
        }
    }

    #[test]
    fn mistakes_name_the_option() {
        for (value, words) in [
            (json!({ "priority-policy": "overflow" }), "overflow needs `min-pending` or `min-ack-pending`"),
            (json!({ "priority-policy": "overflow", "min-pending": 0 }), "`min-pending`: must be at least 1"),
            (json!({ "min-pending": 5 }), "`min-pending`: is for priority-policy = overflow"),
            (
                json!({ "priority-policy": "pinned-client", "min-ack-pending": 5 }),
                "`min-ack-pending`: is for priority-policy = overflow",
            ),
            (json!({ "priority-timeout": "5s" }), "`priority-timeout`: is for priority-policy = pinned-client"),
            (
                json!({ "priority-policy": "pinned-client", "priority-timeout": "10ms" }),
                "`priority-timeout`: must be between 500ms and",
            ),
            (json!({ "priority-policy": "pinned-client", "consumer": "push" }), "use consumer = pull"),
            (
                json!({ "priority-policy": "overflow", "min-ack-pending": 5, "ack": "none" }),
                "nothing is unacknowledged with ack = none",
            ),
        ] {
            let told = read(&value).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }
}
