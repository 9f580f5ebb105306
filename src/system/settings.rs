//! Settings as they are recorded.

/// A JSON value as people write it: strings without quotes.
pub(super) fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
